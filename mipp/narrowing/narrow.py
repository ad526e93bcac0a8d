"""Narrower heads for a network, and the same again for a copy that is rebuilt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from operator import itemgetter

import torch
from torch import Tensor, nn, unflatten

from mipp.activations.whole import Side, watch_whole
from mipp.copies import copy_of
from mipp.errors import CutError
from mipp.evaluation import evaluating
from mipp.graph.tied import sharing
from mipp.inputs import Inputs, count, each
from mipp.layers import layer_of
from mipp.layers.heads import Attention, Weights, attention_at
from mipp.narrowing.bases import Bases, Moments, bases_of, in_bases
from mipp.narrowing.proof import free_to_narrow
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
    slices = _slices(batches)
    first = next(slices, None) if share < 1 else None
    if first is None:
        return model
    found = {
        one.name: one for one in wide_attentions(model, each(first, itemgetter(slice(2))), whole)
    }
    chosen = _chosen(model, found, chain([first], slices), share) if found else {}
    narrow = copy_of(model) if chosen else model
    for name, (size, bases) in chosen.items():
        one = replace(found[name], module=narrow.get_submodule(name))
        one.take(in_bases(one.weights(), bases, size))
    if chosen:
        _settle(narrow)
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
    model = copy_of(model) if smaller else model
    for name, size in smaller.items():
        one = replace(found[name], module=model.get_submodule(name))
        rows, shifts, outputs, bias = one.weights()
        shifts = None if shifts is None else shifts[:, :, :size]
        one.take(Weights(rows[:, :, :size], shifts, outputs[:, :, :size], bias))
    if smaller:
        _settle(model)
    return model


def _settle(model: nn.Module) -> None:
    """What holds attentions agrees with them, in place."""
    for layer in filter(None, map(layer_of, model.modules())):
        layer.settle()


def sizes_of_heads(model: nn.Module, dense: nn.Module) -> dict[str, int]:
    """Size of the heads of each attention that is narrower than in the dense network."""
    before = attentions_in(dense) if model is not dense else []
    after = {one.name: replace(one, module=model.get_submodule(one.name)).size for one in before}
    return {one.name: after[one.name] for one in before if after[one.name] < one.size}


def wide_attentions(
    model: nn.Module, inputs: Inputs, whole: Collection[str] = ()
) -> list[Attention]:
    """Those of `attentions_in` that `narrowed` looks at.

    They are wide enough, not among the patterns of `whole`, and the network computes the same with
    heads that are narrower as with wide ones that tell no more, on these inputs.
    """
    found = attentions_in(model)
    wide = [one for one in found if one.size > MULTIPLE and not one.is_named(whole)]
    return free_to_narrow(model, wide, inputs, MULTIPLE)


def with_narrowest_heads(model: nn.Module, wide: Iterable[Attention]) -> nn.Module:
    """A copy in which these have the smallest heads that `narrowed` could find."""
    return with_head_sizes(model, {one.name: MULTIPLE for one in wide})


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
            made = [one.windows(parts[maker]) for maker in one.makers]
            q, k, *_ = made if len(made) > 1 else made[0].chunk(3, -1)
            own = _sums(q, k, parts[one.reader], one.heads)
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


def _sums(queries: Tensor, keys: Tensor, mixed: Tensor, heads: int) -> Moments:
    """Of what one call makes (n, tokens, features); there may be other keys than queries."""
    made = (unflatten(part.double(), -1, (heads, -1)) for part in (queries, keys, mixed))
    q, k, v = made
    k = k - k.mean(-3, keepdim=True)
    q, k, v = (part.flatten(0, -3) for part in (q, k, v))
    of_q, of_k, of_v = (torch.einsum("thi,thj->hij", part, part) for part in (q, k, v))
    return Moments(of_q, of_k, of_v, v.sum(0), v.new_tensor(float(len(v))))
