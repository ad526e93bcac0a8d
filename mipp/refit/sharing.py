"""How many images and rows the fit of a layer may look at, so that memory does not grow with them.

While a layer is fitted every image waits there with what the network holds of it. Early in a
network maps are large and one image has rows enough; later ones are small and let more images in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor, nn

from mipp.activations.capture import Sampling
from mipp.evaluation import evaluating
from mipp.graph import ChannelGraph
from mipp.inputs import Inputs, call, count, each, joined, tensors_of
from mipp.layers import layer_at
from mipp.refit.watcher import Watcher

Batches = Callable[[], Iterable[Inputs]]

WAITING = 2**29  # bytes of all images that wait at a layer, about
CHUNK = 2**23  # bytes of the inputs of one pass, about
ALIVE = 3  # times what a layer reads and makes, for what else is alive, such as a skip connection
AMPLE = 2**28  # bytes of it up to which no layer is fitted to fewer rows than it has
ROWS = 4096  # that every layer is fitted to beyond that, where it has so many
PER_FEATURE = 64  # such rows for each feature of its inputs; all give ResNet-20 0.1 to 0.5 points


@dataclass(frozen=True)
class Chunks:
    """The calibration inputs, and how many chunks of them each layer is fitted to."""

    batches: Batches
    fitted: Mapping[str, int]
    images: int  # of one chunk
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

        def on_output(name: str, inputs: Tensor, output: Tensor) -> None:
            size = max(sizes.pop(name, 0), inputs.nbytes + output.nbytes)
            sizes[name] = size  # after what runs before its last call
            here = layer_at(dense, name).positions(output.shape)
            positions[name] = positions.get(name, 0) + here

        first = next(_in_chunks(batches()))
        one = each(first, lambda tensor: tensor[:1])
        watcher = Watcher(dense, graph, weights, [], on_output, lambda *_: None)
        with evaluating(dense), torch.no_grad(), watcher:
            call(dense, one)
        fitted = _chunks_at(sizes, list(sizes), first)
        chunks = cls(batches, fitted, count(first), sampling, weights)
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
        for _, chunk in zip(range(most), _in_chunks(self.batches()), strict=False):
            yield chunk

    def sampling_at(self, name: str) -> Sampling:
        """Of the rows of a layer, those that its map needs, from the images it is fitted to."""
        images = min(self.sampling.images, self.fitted[name] * self.images)
        wanted = max(ROWS, PER_FEATURE * self.weights[name][1:].numel())
        some = max(wanted, self.least * self.sampling.rows)
        rows = math.ceil(min(self.sampling.rows, some))
        return replace(self.sampling, images=images, rows=rows)


def _in_chunks(batches: Iterable[Inputs]) -> Iterator[Inputs]:
    """The same inputs, small batches joined."""
    waiting: list[Inputs] = []
    size = 0
    for batch in batches:
        more = sum(tensor.nbytes for tensor in tensors_of(batch))
        if waiting and size + more > CHUNK:
            yield joined(waiting)
            waiting, size = [], 0
        waiting.append(batch)
        size += more
    if waiting:
        yield joined(waiting)


def _chunks_at(sizes: Mapping[str, int], order: Sequence[str], chunk: Inputs) -> dict[str, int]:
    """How many chunks may wait at each layer, and at all layers after it.

    Parameters
    ----------
    sizes : layer -> bytes that it reads and makes of one image.
    order : of the layers.
    chunk : the first one, that stands for all.

    >>> import torch
    >>> _chunks_at({"a": 2**25, "b": 2**20}, ["a", "b"], torch.zeros(2, 1))
    {'a': 2, 'b': 85}
    """
    images = max(count(chunk), 1)
    fitting = [WAITING // (ALIVE * images * max(sizes[name], 1)) for name in reversed(order)]
    least = reversed(list(accumulate(fitting, min)))
    return {name: max(1, chunks) for name, chunks in zip(order, least, strict=True)}
