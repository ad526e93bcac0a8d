"""Layer-norms whose statistics leave some channels out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mipp.graph.channels import IntArray
from mipp.hooked_mode import HookedMode


class KeptStatistics(HookedMode):
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
        self._running: list[IntArray] = []

    def hooks(self) -> Iterator[Any]:
        def leave(*_: Any) -> None:
            self._running.pop()

        for name, features in self._dropped.items():

            def enter(*_: Any, features: IntArray = features) -> None:
                self._running.append(features)

            module = self._model.get_submodule(name)
            yield module.register_forward_pre_hook(enter)
            yield module.register_forward_hook(leave)

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._running.clear()

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function not in (F.layer_norm, F.rms_norm) or not self._running:
            return function(*args, **kwargs)
        x: Tensor = args[0]
        kept = torch.ones(x.shape[-1], dtype=torch.bool)
        kept[torch.from_numpy(self._running[-1])] = False
        factors = {
            name: value[kept] if isinstance(value, Tensor) else value
            for name, value in kwargs.items()
        }
        result = torch.zeros_like(x)
        result[..., kept] = function(x[..., kept], (int(kept.sum()),), *args[2:], **factors)
        return result
