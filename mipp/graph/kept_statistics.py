"""Layer-norms whose statistics leave some channels out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from mipp.hooked_mode import Hooked
from mipp.layers import IntArray, Layer, layer_at


class KeptStatistics(Hooked, TorchFunctionMode):
    """A context in which layer-norms normalise the kept channels alone; dropped ones become zero.

    Works on torch's functions, so that it does not matter in what order a module, such as
    torchvision's `LayerNorm2d`, lays its axes out.

    Parameters
    ----------
    dropped : layer-norm -> features left out.
    """

    def __init__(self, model: nn.Module, dropped: Mapping[str, IntArray]) -> None:
        super().__init__()
        self._model, self._dropped = model, dropped
        self._running: list[tuple[Layer, IntArray]] = []

    def hooks(self) -> Iterator[Any]:
        def leave(*_: Any) -> None:
            self._running.pop()

        for name, features in self._dropped.items():
            layer = layer_at(self._model, name)

            def enter(*_: Any, layer: Layer = layer, features: IntArray = features) -> None:
                self._running.append((layer, features))

            yield layer.module.register_forward_pre_hook(enter)
            yield layer.module.register_forward_hook(leave)

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._running.clear()

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        layer, features = self._running[-1] if self._running else (None, None)
        if layer is None or getattr(function, "__name__", "") not in layer.operators:
            return function(*args, **kwargs)
        kept = torch.ones(layer.outputs.features, dtype=torch.bool)
        kept[torch.from_numpy(features)] = False
        return layer.on_kept(function, args, kwargs, kept)
