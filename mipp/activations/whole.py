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
    model: nn.Module, layers: Iterable[str], side: Side, batches: Iterable[Inputs]
) -> Iterator[Mapping[str, Sequence[Tensor]]]:
    """Inputs or outputs of layers as they are laid out, one mapping per batch of inputs.

    A layer has as many as it has calls, one after the other; their sizes may differ. Model, layout
    and errors as of `watch_whole`.
    """
    caught: dict[str, list[Tensor]] = {}
    sides = dict.fromkeys(layers, side)
    for _ in watch_whole(model, sides, batches, lambda n, x: caught.setdefault(n, []).append(x)):
        yield dict(caught)
        caught.clear()


def watch_whole(
    model: nn.Module,
    sides: Mapping[str, Side],
    batches: Iterable[Inputs],
    see: Callable[[str, Tensor], None],
) -> Iterator[None]:
    """Run a model on batches; `see` is handed what each layer reads, or makes, as it does.

    The model runs in eval mode without gradients and is left as found. An attention reads tokens
    (n, tokens, embedding) and makes queries, keys and values.

    Parameters
    ----------
    sides : which of each layer.

    Yields
    ------
    Nothing, after each batch.

    Raises
    ------
    ActivationError : a layer's input or output holds NaN or infinity; names the layer.
    """
    watching = (
        layer.module.register_forward_hook(_seen_by(see, name, layer, side), with_kwargs=True)
        for name, side, layer in ((name, sides[name], layer_at(model, name)) for name in sides)
    )
    with hooked(watching):
        for inputs in batches:
            with evaluating(model), torch.inference_mode():
                call(model, inputs)
            yield


def _seen_by(
    see: Callable[[str, Tensor], None], name: str, layer: Layer, side: Side
) -> Callable[[nn.Module, tuple[Any, ...], Mapping[str, Any], Any], None]:
    def hook(
        module: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any], output: Any
    ) -> None:
        read, made = layer.sides(inputs or (named.get("query", named.get("input")),), output)
        require_finite(name, read, made)
        see(name, read if side == "inputs" else made)

    return hook
