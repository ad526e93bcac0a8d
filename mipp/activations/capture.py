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
from mipp.hooked_mode import hooked
from mipp.inputs import Inputs, call
from mipp.layers import Layer, layer_at

Rows = Mapping[str, tuple[Tensor, Tensor]]  # pair -> x (n, channels, block), y (n, targets)
OnRows = Callable[[str, Tensor, Tensor], None]


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
            return torch.arange(positions, device="cpu").expand(images, -1)
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

    @property
    def complete(self) -> bool:
        """Whether all calls of a pass have been drawn for."""
        return self._positions is None or self._before >= self._positions

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
    rows: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str, x: Tensor, y: Tensor) -> None:
        rows[name] = x, y

    for _ in stream_rows(model, pairs, batches, sampling, keep):
        yield {pair.name: rows[pair.name] for pair in pairs}
        rows.clear()


def stream_rows(
    model: nn.Module,
    pairs: Sequence[LayerPair],
    batches: Iterable[Inputs],
    sampling: Sampling,
    on_rows: OnRows,
) -> Iterator[None]:
    """The same rows, handed on as soon as a layer has run, so that those of no two need be held.

    Parameters
    ----------
    on_rows : called with a pair's name, x (n, channels, block) and y (n, targets).

    Yields
    ------
    After every batch, with the model in the modes that it was in.
    """
    capture = _Capture(pairs, on_rows)

    def capturing() -> Iterator[Any]:
        for pair in pairs:
            if pair.kind == "pixels":
                module = model.get_submodule(pair.consumer)
                yield module.register_forward_hook(capture.pixels(pair))
        for stream, (name, own) in enumerate(capture.pairs.items()):
            tap = Tap(layer_at(model, name), sampling, stream, own[-1].positions)
            capture.taps[name] = tap
            yield tap.layer.module.register_forward_hook(capture.hook(name, tap))

    with hooked(capturing()):
        for inputs in batches:
            capture.restart()
            with evaluating(model), torch.inference_mode():
                call(model, inputs)
                capture.finish()
            yield


class _Capture:
    """Rows of a pass, handed on when the last call of their layer has run."""

    def __init__(self, pairs: Sequence[LayerPair], on_rows: OnRows) -> None:
        self.pairs: dict[str, list[LayerPair]] = {}  # by consumer
        for pair in pairs:
            if pair.kind != "pixels":
                self.pairs.setdefault(pair.consumer, []).append(pair)
        self.taps: dict[str, Tap] = {}
        self._on_rows = on_rows
        self._caught: dict[str, tuple[Tensor, Tensor]] = {}  # of layers that will run again

    def restart(self) -> None:
        """A pass begins."""
        self._caught.clear()
        for tap in self.taps.values():
            tap.restart()

    def finish(self) -> None:
        """Hand on what layers had in fewer calls than they may have."""
        for name in list(self._caught):
            self._hand_on(name)

    def hook(self, name: str, tap: Tap) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            read, made = tap.layer.sides(inputs, output)
            at = tap.draw(made)
            x, y = tap.inputs(read, at, made), tap.outputs(made, at)
            require_finite(name, x, y)
            images = len(at)
            if name in self._caught:
                calls = zip(self._caught[name], (x, y), strict=True)
                x, y = (_beside(call_rows, images) for call_rows in calls)
            self._caught[name] = (x, y)
            if tap.complete:
                self._hand_on(name)

        return hook

    def pixels(self, pair: LayerPair) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        """A row per image: x (n, pixels, colours), y the outputs over the map (n, targets)."""

        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            y = thin_out(module, output).flatten(1)
            x = inputs[0].flatten(1)[:, torch.from_numpy(pair.features).to(output.device)]
            require_finite(pair.consumer, x, y)
            self._give(pair, x, y)

        return hook

    def _hand_on(self, name: str) -> None:
        x, y = self._caught.pop(name)
        for pair in self.pairs[name]:
            self._give(pair, *_take(pair, x, y))

    def _give(self, pair: LayerPair, x: Tensor, y: Tensor) -> None:
        with torch.inference_mode(False), torch.no_grad():  # sums outlive the pass
            self._on_rows(pair.name, x, y)


def _beside(rows: tuple[Tensor, Tensor], images: int) -> Tensor:
    """Rows of several calls, those of one image together."""
    parts = [part.reshape(images, len(part) // images, *part.shape[1:]) for part in rows]
    return torch.cat(parts, 1).flatten(0, 1)


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
                "values; check the weights and how the images are normalised."
            )


def _take(pair: LayerPair, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The pair's own features of a consumer's rows: x (n, channels, block)."""
    channels, block = pair.features.shape
    flat = pair.features.ravel()
    if not np.array_equal(flat, np.arange(x.shape[1])):
        x = x[:, torch.from_numpy(flat).to(x.device)]
    return x.reshape(x.shape[0], channels, block * x.shape[2]), y
