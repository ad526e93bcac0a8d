"""Rows of layer pairs, sampled while a network runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mipp.activations.targets import Observe, Targets, observed
from mipp.errors import ActivationError
from mipp.evaluation import evaluating
from mipp.graph import LayerPair
from mipp.graph.kinds import TOKENWISE
from mipp.graph.pixels import thin_out
from mipp.inputs import Inputs, call
from mipp.layers.attention import in_projection, tokens_of
from mipp.layers.padded_shortcut import PaddedShortcut

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

    def __init__(self, sampling: Sampling, stream: int) -> None:
        self._sampling = sampling
        self._bits = np.random.PCG64([sampling.seed, stream])
        self._generator = np.random.Generator(self._bits)
        self._before = sampling.first

    def draw(self, images: int, positions: int) -> Tensor:
        """Flat position indices, shape (images, per image), ascending."""
        count = self._sampling.per_image(positions)
        if count == positions:
            return torch.arange(positions).expand(images, -1)
        self._bits.advance(self._before * count)  # a number takes one step
        self._before = 0
        jitter = self._generator.random((images, count))
        return torch.from_numpy(((np.arange(count) + jitter) * positions / count).astype(np.int64))


class Tap:
    """Reads sampled rows at one conv, linear, shortcut or attention module as it runs."""

    def __init__(self, module: nn.Module, sampling: Sampling, stream: int) -> None:
        self.module = module
        self._positions = _Positions(sampling, stream)
        self.at: Tensor  # positions drawn last
        self.shape: torch.Size  # of the output that they lie in

    def draw(self, output: Tensor) -> Tensor:
        """Positions (images, per image) in the output map (or tokens) of one batch."""
        linear = isinstance(self.module, TOKENWISE)
        count = output[0].numel() // output.shape[-1] if linear else output[0, 0].numel()
        self.shape = output.shape
        self.at = self._positions.draw(output.shape[0], count).to(output.device)
        return self.at

    def outputs(self, y: Tensor, at: Tensor) -> Tensor:
        """Target rows (n, targets)."""
        image = torch.arange(len(at), device=at.device)[:, None]
        if isinstance(self.module, TOKENWISE):
            return y.reshape(y.shape[0], -1, y.shape[-1])[image, at].flatten(0, 1)
        row, column = at // y.shape[3], at % y.shape[3]
        return y.permute(0, 2, 3, 1)[image, row, column].flatten(0, 1)

    def inputs(self, x: Tensor, at: Tensor, y: Tensor) -> Tensor:
        """Feature rows (n, in features, kernel size); y is only asked for its shape."""
        image = torch.arange(len(at), device=at.device)[:, None]
        if isinstance(self.module, TOKENWISE):
            return x.reshape(x.shape[0], -1, x.shape[-1])[image, at].flatten(0, 1)[:, :, None]
        pixels, inside = self._kernel_pixels(at, x, y)
        if not bool(inside.all()) and _fills_borders(self.module):
            x = _padded(self.module, x)
            pixels, inside = self._kernel_pixels(at, x, y, padded=True)
        # only what lies under a sampled kernel is read: maps are large, samples few
        images, rows, size = pixels.shape
        spread = pixels.reshape(images, 1, rows * size).expand(-1, x.shape[1], -1)
        found = x.flatten(2).gather(2, spread).view(images, x.shape[1], rows, size)
        found = found.transpose(1, 2).contiguous()  # (images, rows, channels, kernel size)
        if not bool(inside.all()):
            found.mul_(inside[:, :, None].to(found.dtype))
        return found.flatten(0, 1)

    def _kernel_pixels(
        self, at: Tensor, x: Tensor, y: Tensor, *, padded: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Flat pixel of x under each tap of the kernel, (images, rows, size), and whether it is
        inside of x; what is not lies at the nearest pixel inside."""
        kernel, stride, dilation, padding = _geometry(self.module)
        places, inside = [], []
        for axis, first in ((0, at // y.shape[3]), (1, at % y.shape[3])):
            taps = torch.arange(kernel[axis], device=at.device) * dilation[axis]
            place = (first * stride[axis])[:, :, None] + taps
            if not padded:
                place = place - padding[axis]
            last = x.shape[2 + axis] - 1
            inside.append((place >= 0) & (place <= last))
            places.append(place.clamp(0, last))
        down, across = places
        pixels = down[..., :, None] * x.shape[3] + across[..., None, :]
        within = inside[0][..., :, None] & inside[1][..., None, :]
        return pixels.flatten(2), within.flatten(2)


def _geometry(module: nn.Module) -> tuple[tuple[int, ...], ...]:
    """Kernel size, stride, dilation and padding before the first pixel, each (down, across)."""
    if isinstance(module, PaddedShortcut):
        return (1, 1), (2, 2), (1, 1), (0, 0)
    assert isinstance(module, nn.Conv2d)
    across, _, down, _ = module._reversed_padding_repeated_twice
    return module.kernel_size, module.stride, module.dilation, (down, across)


def _fills_borders(module: nn.Module) -> bool:
    """Whether what lies outside of the map is something else than zeros."""
    return isinstance(module, nn.Conv2d) and module.padding_mode != "zeros"


def _padded(module: nn.Module, x: Tensor) -> Tensor:
    """The input as the convolution's kernel sees it, in the module's own padding mode."""
    assert isinstance(module, nn.Conv2d)
    return F.pad(x, module._reversed_padding_repeated_twice, mode=module.padding_mode)


def capture_rows(
    model: nn.Module,
    pairs: Sequence[LayerPair],
    batches: Iterable[Inputs],
    sampling: Sampling,
    targets: Targets = "pre-activation",
) -> Iterator[Rows]:
    """Sampled rows of every pair, one mapping per batch of inputs.

    The model runs in eval mode without gradients and is left as found.

    Parameters
    ----------
    targets : what y is: a layer's output itself, or what it has become after the norm, the sum
        and the nonlinearity that follow, see `targets.observed`. Pixels always tell of outputs.

    Raises
    ------
    ActivationError : a layer's input or output holds NaN or infinity, or what its output becomes
        cannot be found; names the layer.
    """
    inner = [pair for pair in pairs if pair.kind != "pixels"]
    consumers = list(dict.fromkeys(pair.consumer for pair in inner))
    caught: dict[str, tuple[Tensor, Tensor]] = {}
    handles = []
    for pair in pairs:
        if pair.kind == "pixels":
            module = model.get_submodule(pair.consumer)
            handles.append(module.register_forward_hook(_catch_pixels(pair, caught)))
    taps = {
        name: Tap(model.get_submodule(name), sampling, stream)
        for stream, name in enumerate(consumers)
    }
    for name, tap in taps.items():
        handles.append(tap.module.register_forward_hook(_catch(name, tap, caught)))
    try:
        running = model
        if targets == "activation":
            running = observed(model, consumers, _catch_targets(taps, caught))
        for inputs in batches:
            caught.clear()
            with evaluating(model), torch.inference_mode():
                call(running, inputs)
                rows = {pair.name: _take(pair, *caught[pair.consumer]) for pair in inner}
                rows |= {pair.name: caught[pair.name] for pair in pairs if pair.kind == "pixels"}
            yield rows
    finally:
        for handle in handles:
            handle.remove()


def sides_of(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> tuple[Tensor, Tensor]:
    """What a layer reads and what it makes of it; an attention's are tokens and in-projection."""
    if isinstance(module, nn.MultiheadAttention):
        tokens = tokens_of(module, inputs[0])
        return tokens, in_projection(module)(tokens)
    return inputs[0], output


def _catch(
    name: str, tap: Tap, caught: dict[str, tuple[Tensor, Tensor]]
) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        read, made = sides_of(module, inputs, output)
        at = tap.draw(made)
        x, y = tap.inputs(read, at, made), tap.outputs(made, at)
        require_finite(name, x, y)
        caught[name] = (x, y)

    return hook


def _catch_targets(taps: Mapping[str, Tap], caught: dict[str, tuple[Tensor, Tensor]]) -> Observe:
    """Puts what a layer's outputs become in the place of its outputs."""

    def observe(name: str, value: Tensor) -> None:
        tap = taps[name]
        if value.shape != tap.shape:
            raise ActivationError(
                f"what becomes of the outputs of layer {name!r} has another shape.\nExpected "
                f"{tuple(tap.shape)}, got {tuple(value.shape)}; set "
                "extract.targets=pre-activation."
            )
        y = tap.outputs(value, tap.at)
        require_finite(name, y, y)
        caught[name] = (caught[name][0], y)

    return observe


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
