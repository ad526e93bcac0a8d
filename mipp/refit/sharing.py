"""How many images and rows the fit of a layer may look at, so that memory does not grow with them.

While a layer is fitted every image waits there with what both networks hold of it. Early in a
network maps are large and one image has rows enough; later ones are small and let more images in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate, islice

import torch
from torch import Tensor, nn

from mipp.activations.capture import Sampling
from mipp.evaluation import evaluating
from mipp.graph import ChannelGraph
from mipp.inputs import Inputs, call, count, each, joined, tensors_of
from mipp.layers import layer_at
from mipp.refit.watcher import Watcher

Batches = Callable[[], Iterable[Inputs]]

WAITING = 3 * 2**28  # bytes of all images that wait at a layer, in both networks, about
CHUNK = 2**22  # bytes of the inputs of one pass, about
ALIVE = 5  # times an input and what the dense layer reads and makes: alive in both networks
AMPLE = 2**28  # bytes of outputs up to which no layer is fitted to fewer rows than it has
ROWS = 4096  # that every layer is fitted to beyond that, where it has so many
PER_FEATURE = 64  # such rows for each feature of its inputs; all give ResNet-20 0.1 to 0.5 points


@dataclass(frozen=True)
class Chunks:
    """The calibration inputs, and how many chunks of them each layer is fitted to."""

    batches: Batches
    images: int  # of one chunk
    fitted: Mapping[str, int]  # by layer, in the order of their last calls
    sampling: Sampling  # of the most rows that any layer has
    weights: Mapping[str, torch.Size]  # of layers in the pruned network: outputs, then features
    least: float = 1.0  # share of its rows that a layer is fitted to though its map needs fewer

    @classmethod
    def of(
        cls,
        dense: nn.Module,
        graph: ChannelGraph,
        weights: Mapping[str, torch.Size],
        batches: Batches,
        sampling: Sampling,
    ) -> Chunks:
        """As memory allows, for the layers of which the weights' shapes are given."""
        sizes: dict[str, int] = {}
        positions: dict[str, int] = {}
        one = each(next(iter(batches())), lambda tensor: tensor[:1])
        own = max(sum(tensor.nbytes for tensor in tensors_of(one)), 1)

        def on_output(name: str, inputs: Tensor, output: Tensor) -> None:
            size = ALIVE * (own + inputs.nbytes + output.nbytes)
            sizes[name] = max(sizes.pop(name, 0), size)  # after what runs before its last call
            here = layer_at(dense, name).positions(output.shape)
            positions[name] = positions.get(name, 0) + here

        watcher = Watcher(dense, graph, weights, [], on_output, lambda *_: None)
        with evaluating(dense), torch.no_grad(), watcher:
            call(dense, one)
        most = max(sizes.values(), default=1)
        images = max(min(CHUNK // own, WAITING // most), 1)
        chunks = cls(batches, images, _chunks_at(sizes, images), sampling, weights)
        ample = AMPLE / max(chunks.target_bytes(positions, graph.sums), 1)
        return replace(chunks, least=min(1.0, ample))

    def target_bytes(self, positions: Mapping[str, int], summed: Collection[str]) -> int:
        """Bytes of what all layers should put out, twice that where a sum follows.

        Parameters
        ----------
        positions : layer -> rows that one input has.
        """
        taken = 0
        for name, places in positions.items():
            sampling = self.sampling_at(name)
            rows = sampling.images * sampling.per_image(places)
            taken += 4 * rows * self.weights[name][0] * (1 + (name in summed))
        return taken

    def inputs(self) -> Iterator[Inputs]:
        """Those of every chunk that some layer is fitted to."""
        most = max(self.fitted.values(), default=0)
        yield from islice(_in_chunks(self.batches(), self.images), most)

    def sampling_at(self, name: str) -> Sampling:
        """Of the rows of a layer, those that its map needs, from the images it is fitted to."""
        images = min(self.sampling.images, self.fitted[name] * self.images)
        wanted = max(ROWS, PER_FEATURE * self.weights[name][1:].numel())
        some = max(wanted, self.least * self.sampling.rows)
        rows = math.ceil(min(self.sampling.rows, some))
        return replace(self.sampling, images=images, rows=rows)


def _in_chunks(batches: Iterable[Inputs], images: int) -> Iterator[Inputs]:
    """The same inputs, so many at a time; the last ones may be fewer."""
    waiting: list[Inputs] = []
    for batch in batches:
        waiting.append(batch)
        size = sum(map(count, waiting))
        if size >= images:
            whole = joined(waiting) if len(waiting) > 1 else batch
            full = size - size % images
            for first in range(0, full, images):
                yield _part(whole, first, first + images)
            waiting = [_part(whole, full, size)] if size > full else []
    if waiting:
        yield joined(waiting)


def _part(inputs: Inputs, first: int, end: int) -> Inputs:
    return each(inputs, lambda tensor: tensor[first:end])


def _chunks_at(sizes: dict[str, int], images: int) -> dict[str, int]:
    """How many chunks may wait at each layer, and at all layers after it.

    Parameters
    ----------
    sizes : layer, in order -> bytes of one image that waits there.
    images : of a chunk.

    >>> _chunks_at({"a": 2**26, "b": 2**22}, 2)
    {'a': 6, 'b': 96}
    """
    fitting = [WAITING // (images * max(size, 1)) for size in reversed(sizes.values())]
    least = reversed(list(accumulate(fitting, min)))
    return {name: max(1, chunks) for name, chunks in zip(sizes, least, strict=True)}
