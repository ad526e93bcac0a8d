"""All that layers read or make, for methods that need whole maps instead of sampled rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mipp.activations.capture import require_finite
from mipp.evaluation import evaluating
from mipp.hooked_mode import hooked
from mipp.inputs import Inputs, call
from mipp.layers import Layer, layer_at

Side = Literal["inputs", "outputs"]


def capture_whole(
    model: nn.Module, layers: Sequence[str], side: Side, batches: Iterable[Inputs]
) -> Iterator[Mapping[str, Sequence[Tensor]]]:
    """Inputs or outputs of layers as they are laid out, one mapping per batch of inputs.

    A layer has as many as it has calls, one after the other; their sizes may differ. The model runs
    in eval mode without gradients and is left as found. An attention reads tokens (n, tokens,
    embedding) and makes queries, keys and values.

    Raises
    ------
    ActivationError : a layer's input or output holds NaN or infinity; names the layer.
    """
    caught: dict[str, list[Tensor]] = {}
    catching = (
        layer.module.register_forward_hook(_catch(name, layer, side, caught))
        for name, layer in ((name, layer_at(model, name)) for name in layers)
    )
    with hooked(catching):
        for inputs in batches:
            caught.clear()
            with evaluating(model), torch.inference_mode():
                call(model, inputs)
            yield dict(caught)


def _catch(
    name: str, layer: Layer, side: Side, caught: dict[str, list[Tensor]]
) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        read, made = layer.sides(inputs, output)
        require_finite(name, read, made)
        caught.setdefault(name, []).append(read if side == "inputs" else made)

    return hook
