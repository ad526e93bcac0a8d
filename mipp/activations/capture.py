"""Rows of layer pairs, sampled while a network runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mipp.errors import ActivationError
from mipp.evaluation import evaluating
from mipp.graph import LayerPair
from mipp.graph.pixels import thin_out
from mipp.inputs import Inputs, call
from mipp.layers import Layer, layer_at

Rows = Mapping[str, tuple[Tensor, Tensor]]  # pair -> x (n, channels, block), y (n, targets)


@dataclass(frozen=True)
class Sampling:
    """Which positions of an output map become rows: `rows` over all `images`, from `seed`.

    Every image gives the same number of positions, one from each of equal strata of the map,
    so that a row is a (nearly) distinct position. Fewer when the map is smaller. Who begins with
    image number `first` draws for it what who begins with the first one does.
    """

    rows: int
    images: int
    seed: int
    first: int = 0

    def per_image(self, positions: int) -> int:
        """Rows that each image gives of a map with that many positions."""
        return min(positions, -(-self.rows // self.images))


class _Positions:
    """Draws positions image by image; the batch size never changes what is drawn."""

    def __init__(self, sampling: Sampling, *stream: int) -> None:
        self._bits = np.random.PCG64([sampling.seed, *stream])
        self._generator = np.random.Generator(self._bits)
        self._before = sampling.first

    def draw(self, images: int, positions: int, count: int) -> Tensor:
        """Flat position indices, shape (images, count), ascending."""
        if count == positions:
            return torch.arange(positions).expand(images, -1)
        self._bits.advance(self._before * count)  # a number takes one step
        self._before = 0
        jitter = self._generator.random((images, count))
        return torch.from_numpy(((np.arange(count) + jitter) * positions / count).astype(np.int64))


class Tap:
    """Reads sampled rows at one layer as it runs.

    Parameters
    ----------
    positions : of all calls in one pass, which share the rows; those of one call by default.
    """

    def __init__(
        self, layer: Layer, sampling: Sampling, stream: int, positions: int | None = None
    ) -> None:
        self.layer = layer
        self._sampling, self._stream, self._positions = sampling, stream, positions
        self._calls: list[_Positions] = []
        self.restart()

    def restart(self) -> None:
        """The next call is the first of a pass."""
        self._call, self._before = 0, 0

    def draw(self, output: Tensor) -> Tensor:
        """Positions (images, per image) in the output map (or tokens) of one batch."""
        positions = self.layer.positions(output.shape)
        total = self._positions or positions
        rows = self._sampling.per_image(total)
        if self._call == len(self._calls):
            stream = (self._stream, self._call) if self._call else (self._stream,)
            self._calls.append(_Positions(self._sampling, *stream))
        until = self._before + positions
        count = rows * until // total - rows * self._before // total
        at = self._calls[self._call].draw(output.shape[0], positions, count)
        if self._positions is not None:
            self._call, self._before = self._call + 1, until
        return at.to(output.device)

    def outputs(self, y: Tensor, at: Tensor) -> Tensor:
        """Target rows (n, targets)."""
        return self.layer.rows_made(y, at)

    def inputs(self, x: Tensor, at: Tensor, y: Tensor) -> Tensor:
        """Feature rows (n, in features, kernel size); y is only asked for its shape."""
        return self.layer.rows_read(x, at, y.shape)


def capture_rows(
    model: nn.Module,
    pairs: Sequence[LayerPair],
    batches: Iterable[Inputs],
    sampling: Sampling,
) -> Iterator[Rows]:
    """Sampled rows of every pair, one mapping per batch of inputs.

    The model runs in eval mode without gradients and is left as found.

    Raises
    ------
    ActivationError : a layer's input or output holds NaN or infinity; names the layer.
    """
    inner = [pair for pair in pairs if pair.kind != "pixels"]
    consumers = list(dict.fromkeys(pair.consumer for pair in inner))
    caught: dict[str, tuple[Tensor, Tensor]] = {}
    positions = {pair.consumer: pair.positions for pair in inner}
    handles = []
    for pair in pairs:
        if pair.kind == "pixels":
            module = model.get_submodule(pair.consumer)
            handles.append(module.register_forward_hook(_catch_pixels(pair, caught)))
    taps = {
        name: Tap(layer_at(model, name), sampling, stream, positions[name])
        for stream, name in enumerate(consumers)
    }
    for name, tap in taps.items():
        handles.append(tap.layer.module.register_forward_hook(_catch(name, tap, caught)))
    try:
        for inputs in batches:
            caught.clear()
            for tap in taps.values():
                tap.restart()
            with evaluating(model), torch.inference_mode():
                call(model, inputs)
                rows = {pair.name: _take(pair, *caught[pair.consumer]) for pair in inner}
                rows |= {pair.name: caught[pair.name] for pair in pairs if pair.kind == "pixels"}
            yield rows
    finally:
        for handle in handles:
            handle.remove()


def _catch(
    name: str, tap: Tap, caught: dict[str, tuple[Tensor, Tensor]]
) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        read, made = tap.layer.sides(inputs, output)
        at = tap.draw(made)
        x, y = tap.inputs(read, at, made), tap.outputs(made, at)
        require_finite(name, x, y)
        images = len(at)
        if name in caught:  # it runs more than once
            x, y = (_beside(pair, images) for pair in zip(caught[name], (x, y), strict=True))
        caught[name] = (x, y)

    return hook


def _beside(rows: tuple[Tensor, Tensor], images: int) -> Tensor:
    """Rows of several calls, those of one image together."""
    parts = [part.reshape(images, len(part) // images, *part.shape[1:]) for part in rows]
    return torch.cat(parts, 1).flatten(0, 1)


def _catch_pixels(
    pair: LayerPair, caught: dict[str, tuple[Tensor, Tensor]]
) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
    """A row per image: x (n, pixels, colours), y the layer's outputs over its map (n, targets)."""

    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        y = thin_out(module, output).flatten(1)
        x = inputs[0].flatten(1)[:, torch.from_numpy(pair.features).to(output.device)]
        require_finite(pair.consumer, x, y)
        caught[pair.name] = (x, y)

    return hook


def require_finite(name: str, x: Tensor, y: Tensor) -> None:
    """Refuse NaN and infinity at a layer's two sides.

    Raises
    ------
    ActivationError : there are such; names the layer and the side.
    """
    for side, values in (("input", x), ("output", y)):
        if not torch.isfinite(values.sum()) and not torch.isfinite(values).all():
            raise ActivationError(
                f"activations cannot be used: layer {name!r} has NaN or infinity in its "
                f"{side}.\nExpected finite numbers for every calibration image, got "
                f"{int((~torch.isfinite(values)).sum())} others in {values.numel()} sampled "
                "values; check the weights and the input normalisation (data.mean, data.std)."
            )


def _take(pair: LayerPair, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The pair's own features of a consumer's rows: x (n, channels, block)."""
    channels, block = pair.features.shape
    flat = pair.features.ravel()
    if not np.array_equal(flat, np.arange(x.shape[1])):
        x = x[:, torch.from_numpy(flat).to(x.device)]
    return x.reshape(x.shape[0], channels, block * x.shape[2]), y
