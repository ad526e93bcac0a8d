"""Groups of channels from the labels that a forward pass left."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from mipp.graph.channels import BareParameter, ChannelGroup, Member, SizeAttribute, Statistic
from mipp.graph.heads import head_groups
from mipp.graph.layouts import decide_layouts, size_choices
from mipp.graph.reasons import Reason
from mipp.graph.record import Record, Reduction, Touch
from mipp.graph.tied import couple_tied, sharing
from mipp.layers import IntArray, layer_of

UNEVEN = "more of some of its channels than of others are in"
ROLES = ("producers", "passengers", "consumers", "statistics")


def read_groups(
    model: nn.Module, record: Record, calls: Mapping[str, int]
) -> Iterator[tuple[ChannelGroup, Reason | None]]:
    """Every group once, in execution order of its first producer, with why it stays whole.

    Parameters
    ----------
    calls : how often each module runs, in execution order.
    """
    unknown = couple_tied(model, record)
    component = decide_layouts(record, components_of)
    sides = _sides(record, component)
    reasons = _reasons(record.fixed, component)
    bare = {name: component[labels.numpy()] for name, labels in record.parameters.items()}
    drafts = _drafts(sides, bare, reasons, record.count)
    order = {name: position for position, name in enumerate(calls)}
    modules = dict(model.named_modules())
    sizes = _sizes(record, component)
    attention = list(head_groups(model, calls, sharing(model)))
    known = {member.module for group, _ in attention for member in group.producers}
    scopes = _scopes(record, component)
    joined = _reasons(record.joined, component)
    found = []
    for touched, components in drafts:
        makers = [name for role, name in touched if role == "producers"]
        roots = [name for name in makers if _names_groups(modules[name])]
        if not roots or known.intersection(makers):
            continue
        parts = {n for n in makers if not np.isin(sides["producers", n], components).all()}
        root = min(roots, key=lambda name: (name in parts, order.get(name, len(order))))
        reason = next((reasons[one] for one in components if one in reasons), None)
        group, fault = _assemble(root, touched, components, sides, bare, record.reductions)
        group = replace(
            group,
            sizes=_sizes_of(components, sizes),
            choices=size_choices(record.layouts, component, components, modules),
        )
        reason = reason or fault or _unsound(group, modules, calls, unknown)
        if group.width == 1:
            reason = next((joined[one] for one in components if one in joined), reason)
        start = next(int(m.features.min()) for m in group.producers if m.module == root)
        name = f"{root}-{start}" if root in parts else _name(root, components, scopes)
        place = order.get(root, len(order)), start
        found.append((place, replace(group, name=name), reason))
    names: set[str] = set()
    taken = Reason("part", "its first layer makes channels of another group too")
    for _, group, reason in sorted(found, key=lambda item: item[0]):
        yield group, reason or (taken if group.name in names else None)
        names.add(group.name)
    yield from attention


def _drafts(
    sides: Mapping[tuple[str, str], IntArray],
    bare: Mapping[str, IntArray],
    reasons: Container[int],
    count: int,
) -> list[tuple[list[tuple[str, str]], list[int]]]:
    """Components that some module makes, by the sides and parameters that they run through.

    Those that cannot go are apart, and those with other numbers of features on some side, as where
    a unit of a grouped convolution reads the end of one part of a concatenation and the start of
    the next.
    """
    made = np.zeros(count + 1, bool)  # the last stands for -1, no component
    for (role, _), owners in sides.items():
        made[owners] |= role == "producers"
    made[-1] = False
    holders: dict[int, dict[tuple[str, str], int]] = {}
    for side, owners in (*sides.items(), *((("parameter", n), o) for n, o in bare.items())):
        ones, counts = np.unique(owners[made[owners]], return_counts=True)
        for one, count in zip(ones.tolist(), counts.tolist(), strict=True):
            holders.setdefault(one, {})[side] = count if side[0] != "parameter" else 0
    drafts: dict[tuple[object, ...], list[int]] = {}
    for one, touched in holders.items():
        drafts.setdefault((one in reasons, *touched.items()), []).append(one)
    return [(list(holders[ones[0]]), ones) for ones in drafts.values()]


def components_of(record: Record) -> IntArray:
    """Component of each label."""
    if not record.edges:
        return np.arange(record.count)
    first, second = (np.concatenate([e[i].numpy() for e in record.edges]) for i in (0, 1))
    links = coo_array((np.ones(len(first), bool), (first, second)), (record.count, record.count))
    found: IntArray = connected_components(links, directed=False)[1].astype(np.int64)
    return found


def _sides(record: Record, component: IntArray) -> dict[tuple[str, str], IntArray]:
    """(role, module) -> component of each feature, -1 for none."""
    sides: dict[tuple[str, str], IntArray] = {}
    touches: Sequence[tuple[str, list[Touch]]] = [(role, getattr(record, role)) for role in ROLES]
    for role, listed in touches:
        for touch in listed:
            owners = np.where(touch.labels >= 0, component[touch.labels], -1)
            sides.setdefault((role, touch.module), owners)
    return sides


def _scopes(record: Record, component: IntArray) -> dict[int, str]:
    """Component -> the module that attends by it, where one module does so with nothing else."""
    found: dict[int, str] = {}
    for scope, labels in record.heads:
        for one in np.unique(component[labels[labels >= 0].numpy()]).tolist():
            found.setdefault(one, scope)
    return found


def _name(root: str, components: list[int], scopes: Mapping[int, str]) -> str:
    """A group's name: its first producer, of heads the module that attends by them alone."""
    [scope, *others] = {scopes.get(one, "") for one in components}
    shared = len([one for one, by in scopes.items() if by == scope]) > len(components)
    return root if others or not scope or shared else scope


def _reasons(listed: Sequence[tuple[Tensor, Reason]], component: IntArray) -> dict[int, Reason]:
    """Component -> the first of the reasons that are listed."""
    reasons: dict[int, Reason] = {}
    for labels, reason in listed:
        for one in np.unique(component[labels.numpy()]).tolist():
            reasons.setdefault(one, reason)
    return reasons


def _sizes(record: Record, component: IntArray) -> dict[tuple[str, str], IntArray]:
    """(module, attribute) -> component of each feature that it counts, where that is clear."""
    found = {}
    for key, listed in record.sizes.items():
        owners = [np.where(x.numpy() >= 0, component[x.numpy()], -1) for x in listed]
        if all(np.array_equal(np.unique(one), np.unique(owners[0])) for one in owners):
            found[key] = owners[0]
    return found


def _sizes_of(
    components: list[int], sizes: Mapping[tuple[str, str], IntArray]
) -> tuple[SizeAttribute, ...]:
    found = []
    for (module, attribute), owners in sizes.items():
        block, odd = divmod(int(np.isin(owners, components).sum()), len(components))
        if block and not odd:
            found.append(SizeAttribute(module, attribute, block))
    return tuple(found)


def _assemble(
    root: str,
    touched: Sequence[tuple[str, str]],
    components: list[int],
    sides: Mapping[tuple[str, str], IntArray],
    bare: Mapping[str, IntArray],
    reductions: Mapping[str, Reduction],
) -> tuple[ChannelGroup, Reason | None]:
    """The group of these components, channels in the order of the root's features."""
    owners = sides["producers", root]
    chosen = owners[np.isin(owners, components)]
    ordered = chosen[np.sort(np.unique(chosen, return_index=True)[1])]
    rank = {one: place for place, one in enumerate(ordered.tolist())}
    parts: dict[str, list[Member]] = {role: [] for role in ROLES}
    parameters: list[BareParameter] = []
    fault = None
    for role, name in touched:
        if role == "parameter":
            member = _bare(name, bare[name], rank)
            if member is None:
                fault = fault or Reason("part", f"{UNEVEN} the parameter {name}")
            else:
                parameters.append(member)
            continue
        features = _features(sides[role, name], rank)
        if features is None:
            fault = fault or Reason("part", f"{UNEVEN} {name}")
            features = np.zeros((len(rank), 0), np.int64)
        parts[role].append(Member(name, features))
    producers, passengers, consumers, means = (tuple(parts[role]) for role in ROLES)
    statistics = tuple(Statistic(*reductions[m.module], m.features) for m in means)
    group = ChannelGroup(
        root,
        len(rank),
        producers,
        passengers,
        consumers,
        tuple(parameters),
        statistics=statistics,
    )
    return group, fault


def _features(owners: IntArray, rank: Mapping[int, int]) -> IntArray | None:
    """Features of each channel, (width, block), or None when channels differ in their number."""
    width = len(rank)
    channel = np.array([rank.get(one, -1) for one in owners.tolist()], np.int64)
    features = np.flatnonzero(channel >= 0)
    counts = np.bincount(channel[features], minlength=width)
    if len(counts) != width or counts.min() != counts.max():
        return None
    return features[np.argsort(channel[features], kind="stable")].reshape(width, -1)


def _bare(name: str, owners: IntArray, rank: Mapping[int, int]) -> BareParameter | None:
    """The axis of a bare parameter along which its channels lie; what nothing reads may differ."""
    alone = ~np.isin(owners, list(rank)) & (np.bincount(owners.ravel())[owners] == 1)
    for axis in range(owners.ndim):
        across = np.moveaxis(owners, axis, 0).reshape(owners.shape[axis], -1)
        unread = np.moveaxis(alone, axis, 0).reshape(owners.shape[axis], -1)
        first = across[np.arange(len(across)), unread.argmin(1)][:, None]
        if ((across == first) | unread).all():
            features = _features(first[:, 0], rank)
            return None if features is None else BareParameter(name, axis, features)
    return None


def _unsound(
    group: ChannelGroup,
    modules: Mapping[str, nn.Module],
    calls: Mapping[str, int],
    shared: set[str],
) -> Reason | None:
    """Why cutting this group would not be exact; empty when it is."""
    for name in dict.fromkeys(group.modules()):
        if calls.get(name, 0) < 1:
            return Reason("uncalled", f"{name} is used without being called")
        if name in shared:
            return Reason("shared", f"{name} shares its weights with another module")
    for member in group.consumers:
        module = modules[member.module]
        layer = layer_of(module)
        if layer is None or not layer.sampled:
            return Reason(
                "kind",
                f"{member.module} ({type(module).__name__}) reads it, whose inputs cannot be cut",
            )
    if not group.consumers:
        return Reason("unread", "no conv or linear layer reads it")
    return Reason("single", "it has a single channel") if group.width == 1 else None


def _names_groups(module: nn.Module) -> bool:
    layer = layer_of(module)
    return layer is None or layer.names_groups
