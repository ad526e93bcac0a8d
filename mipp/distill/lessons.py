"""What is learned from: batches of inputs, with what the dense network makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mipp.distill.matched import Features, inputs_caught
from mipp.distill.views import View, plain
from mipp.evaluation import evaluating
from mipp.inputs import Inputs, call, count, each, joined, tensors_in, tensors_of

BATCH = 64  # inputs at once, of
SMALL = 2**18  # bytes each; of larger ones fewer, whose maps training holds, but of any
LEAST = 8  # for the statistics of batch-norms
HELD_OUT = 10  # one of so many inputs is not learned from
ANSWERS = 2**30  # bytes of answers that are kept, about; others are computed again each time


class Answer(NamedTuple):
    """What a network puts out, and what its matched layers read."""

    outputs: list[Tensor]
    read: dict[str, Tensor]


def answer(
    model: nn.Module,
    inputs: Inputs,
    layers: Features,
    run: Callable[[Tensor], Any] | None = None,
) -> Answer:
    """The answer of a network as it stands, in the mode that it is in.

    Parameters
    ----------
    run : what is called in the network's place, such as the network compiled.
    """
    with inputs_caught(model, layers) as read:
        outputs = [t for t in tensors_in(call(run or model, inputs)) if t.is_floating_point()]
    return Answer(outputs, dict(read))


class Batch(NamedTuple):
    """Single inputs, each with the view of it that is taken."""

    seen: Sequence[tuple[Inputs, View]]

    def inputs(self) -> Inputs:
        """All of them as one batch."""
        return joined([each(one, view) for one, view in self.seen])


class Lessons:
    """Fixed batches, and the dense network's answers to them, computed once as far as they fit.

    A batch stays what it is: outputs of any shape can be compared, whatever their axes mean.
    """

    def __init__(self, batches: Sequence[Batch], dense: nn.Module, layers: Features) -> None:
        self._batches, self._dense, self._layers = batches, dense, layers
        self._known: dict[int, Answer] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._batches)

    def at(self, place: int) -> tuple[Inputs, Answer]:
        """Inputs of one batch, with the dense network's answer."""
        inputs = self._batches[place].inputs()
        if place in self._known:
            return inputs, self._known[place]
        with evaluating(self._dense), torch.no_grad():
            right = answer(self._dense, inputs, self._layers)
        size = sum(tensor.nbytes for tensor in (*right.outputs, *right.read.values()))
        if self._bytes + size <= ANSWERS:
            self._known[place], self._bytes = right, self._bytes + size
        return inputs, right


def held_out(batches: Iterable[Inputs]) -> tuple[list[Inputs], list[Inputs]]:
    """Inputs to learn from, and a tenth to judge by; single ones, shape (1, ...), without a copy.

    >>> learned, judged = held_out([torch.arange(12.0)[:, None]])
    >>> len(learned), [x.item() for x in judged]
    (10, [0.0, 10.0])
    """
    every = [
        each(batch, itemgetter(slice(i, i + 1))) for batch in batches for i in range(count(batch))
    ]
    return [x for i, x in enumerate(every) if not is_held_out(i)], every[::HELD_OUT]


def is_held_out(place: int) -> bool:
    """Whether the input at a place among all is judged by, not learned from."""
    return place % HELD_OUT == 0


def shuffled(count: int, generator: torch.Generator) -> list[int]:
    """Places in a random order."""
    order: list[int] = torch.randperm(count, generator=generator, device="cpu").tolist()
    return order


def at_once(one: Inputs) -> int:
    """Inputs of a batch.

    >>> at_once(torch.zeros(1, 3, 32, 32)), at_once(torch.zeros(1, 3, 224, 224))
    (64, 27)
    """
    size = sum(tensor.nbytes for tensor in tensors_of(one))
    return min(BATCH, max(LEAST, BATCH * SMALL // max(size, 1)))


def batches_of(
    inputs: Sequence[Inputs],
    views: Sequence[View] = (plain,),
    generator: torch.Generator | None = None,
) -> list[Batch]:
    """Every view of every input once, in batches of `at_once` or a few more; shuffled if asked."""
    seen = [(one, view) for view in views for one in inputs]
    if generator is not None:
        seen = [seen[i] for i in shuffled(len(seen), generator)]
    count = max(1, len(seen) // at_once(inputs[0]))
    return [Batch(seen[i::count]) for i in range(count)]
