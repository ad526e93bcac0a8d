"""Narrower heads for a network, and the same again for a copy that is rebuilt."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from operator import itemgetter

import torch
from torch import Tensor, nn, unflatten

from mipp.activations.whole import Side, watch_whole
from mipp.errors import CutError
from mipp.evaluation import evaluating
from mipp.graph.tied import sharing
from mipp.inputs import Inputs, count, each
from mipp.layers.heads import Attention, Weights, attention_at
from mipp.narrowing.bases import Bases, Moments, bases_of
from mipp.progress import track
from mipp.settings import NARROW_HEADS

MULTIPLE = 8  # sizes of heads: the fast kernels want them so
ROWS, LEAST = 64, 16  # tokens for each dimension of a head: so many are enough, so few too few
TOGETHER = 8  # inputs at once: few are enough, where each has many tokens


def narrowed(
    model: nn.Module,
    batches: Iterable[Inputs],
    share: float = NARROW_HEADS,
    whole: Collection[str] = (),
) -> nn.Module:
    """The network, or a copy whose attentions have narrower heads that tell this share.

    Queries and keys are turned, and so are values and what reads them, so that the first dimensions
    of a head tell most of its logits and outputs; the others go. Sizes are multiples of 8.

    Parameters
    ----------
    share : of the variance of logits and of outputs, over all heads of an attention; 1 leaves all.
    whole : patterns of names of attentions, or of their parts, that stay as they are.

    Source: see `bases`.
    """
    found = {one.name: one for one in (wide_attentions(model, whole) if share < 1 else ())}
    if not found:
        return model
    chosen = _chosen(model, found, batches, share)
    narrow = copy.deepcopy(model) if chosen else model
    for name, (size, bases) in chosen.items():
        one = replace(found[name], module=narrow.get_submodule(name))
        one.take(in_bases(one.weights(), bases, size))
    return narrow


def with_head_sizes(model: nn.Module, sizes: Mapping[str, int]) -> nn.Module:
    """The network, or a copy whose attentions have heads of these sizes, of whatever weights.

    Raises
    ------
    CutError : one of them is no attention of the network, or has smaller heads.
    """
    found = {one.name: one for one in attentions_in(model)} if sizes else {}
    for name, size in sizes.items():
        own = found[name].size if name in found else 0
        if own < size:
            raise CutError(
                f"selection does not fit {type(model).__name__}.\nAttention {name!r}: expected "
                f"heads of at least {size}, got {own or 'no such attention'}; make the selection "
                "anew for this model."
            )
    smaller = {name: size for name, size in sizes.items() if found[name].size > size}
    model = copy.deepcopy(model) if smaller else model
    for name, size in smaller.items():
        one = replace(found[name], module=model.get_submodule(name))
        rows, shifts, outputs, bias = one.weights()
        shifts = None if shifts is None else shifts[:, :, :size]
        one.take(Weights(rows[:, :, :size], shifts, outputs[:, :, :size], bias))
    return model


def sizes_of_heads(model: nn.Module, dense: nn.Module) -> dict[str, int]:
    """Size of the heads of each attention that is narrower than in the dense network."""
    if model is dense:
        return {}
    before = {one.name: one.size for one in attentions_in(dense)}
    return {
        one.name: one.size
        for one in attentions_in(model)
        if one.size < before.get(one.name, one.size)
    }


def wide_attentions(model: nn.Module, whole: Collection[str] = ()) -> list[Attention]:
    """Those of `attentions_in` that are wide enough, and not among the patterns of `whole`."""
    found = attentions_in(model)
    return [one for one in found if one.size > MULTIPLE and not one.is_named(whole)]


def with_narrowest_heads(model: nn.Module, whole: Collection[str] = ()) -> nn.Module:
    """A copy with the smallest heads that `narrowed` could find, of whatever weights."""
    return with_head_sizes(model, {one.name: MULTIPLE for one in wide_attentions(model, whole)})


def attentions_in(model: nn.Module) -> list[Attention]:
    """Those of a network whose heads can become narrower: of a known kind, and alone."""
    tied = sharing(model)
    often = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    with evaluating(model), torch.no_grad():
        found = [
            attention_at(name, module)
            for name, module in model.named_modules()
            if often[id(module)] == 1
        ]
    return [one for one in found if one is not None and not tied.intersection(one.parts)]


def in_bases(weights: Weights, bases: Bases, size: int) -> Weights:
    """The first dimensions of the heads in these bases.

    The logits are as large as before: an attention divides them by the root of its size.
    """
    rows, shifts, outputs, bias = weights
    scale = (size / weights.size) ** 0.5
    turn = torch.stack([scale * bases.queries, bases.keys, bases.values])[..., :size]
    kept = outputs @ bases.outputs[..., :size]
    if bias is not None:
        lost = bases.mean - (bases.outputs @ bases.values.mT @ bases.mean[..., None])[..., 0]
        bias = bias + torch.einsum("hfs,hs->f", outputs, lost)
    return Weights(
        torch.einsum("phsk,phsi->phki", turn, rows),
        None if shifts is None else torch.einsum("phsk,phs->phk", turn, shifts),
        kept,
        bias,
    )


def _chosen(
    model: nn.Module, found: Mapping[str, Attention], batches: Iterable[Inputs], share: float
) -> dict[str, tuple[int, Bases]]:
    """Size and bases of the attentions that can be narrower."""
    chosen = {}
    for name, sums in _moments(model, found, batches).items():
        if float(sums.tokens) < LEAST * found[name].size:  # few tokens need few dimensions
            continue
        weights = found[name].weights()
        bases = bases_of(sums, weights.outputs, centred=weights.bias is not None)
        enough = [
            size
            for size in range(MULTIPLE, weights.size, MULTIPLE)
            if float(bases.lost[size]) <= 1 - share
        ]
        if enough:
            chosen[name] = enough[0], bases
    return chosen


def _moments(
    model: nn.Module, found: Mapping[str, Attention], batches: Iterable[Inputs]
) -> dict[str, Moments]:
    """Of the attentions that forward runs, over the first inputs."""
    sides: dict[str, Side] = {maker: "outputs" for one in found.values() for maker in one.makers}
    sides |= {one.reader: "inputs" for one in found.values()}
    owners = {part: one for one in found.values() for part in (*one.makers, one.reader)}
    seen: dict[str, dict[str, Tensor]] = {name: {} for name in found}  # of a call that goes on
    sums: dict[str, Moments] = {}
    odd: set[str] = set()  # a part of which runs by itself, too

    def see(part: str, x: Tensor) -> None:
        one = owners[part]
        parts = seen[one.name]
        if part in parts:
            odd.add(one.name)
        parts[part] = x
        if len(parts) > len(one.makers):
            made = torch.cat([one.windows(parts[maker]) for maker in one.makers], -1)
            own = _sums(made.double(), parts[one.reader].double(), one.heads)
            sums[one.name] = sums[one.name] + own if one.name in sums else own
            parts.clear()

    slices = track(_slices(batches), total=None, label="narrow heads")
    for _ in watch_whole(model, sides, slices, see):
        if all(float(sums[name].tokens) >= ROWS * found[name].size for name in sums):
            break
    return {name: own for name, own in sums.items() if name not in odd and not seen[name]}


def _slices(batches: Iterable[Inputs]) -> Iterator[Inputs]:
    """The same inputs, so many at once."""
    for batch in batches:
        for first in range(0, count(batch), TOGETHER):
            yield each(batch, itemgetter(slice(first, first + TOGETHER)))


def _sums(made: Tensor, mixed: Tensor, heads: int) -> Moments:
    """Of one call's queries, keys and values (n, tokens, 3 * features), and values mixed."""
    q, k, _ = unflatten(made, -1, (3, heads, -1)).unbind(-3)
    k = k - k.mean(-3, keepdim=True)
    q, k, v = (part.flatten(0, -3) for part in (q, k, unflatten(mixed, -1, (heads, -1))))
    of_q, of_k, of_v = (torch.einsum("thi,thj->hij", part, part) for part in (q, k, v))
    return Moments(of_q, of_k, of_v, v.sum(0), v.new_tensor(float(len(v))))
