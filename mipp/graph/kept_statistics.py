"""Statistics that leave some channels out: those of layer-norms, and those written in forward."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from mipp.graph.operations import MEANS
from mipp.graph.record import Reduction
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
        kept = torch.ones(layer.outputs.features, dtype=torch.bool, device="cpu")
        kept[torch.from_numpy(features)] = False
        return layer.on_kept(function, args, kwargs, kept)


class KeptReductions(Hooked, TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context in which means and the like of channels are those of the kept channels alone.

    Knows each by the module that runs it and by the reductions that this module ran before.

    Parameters
    ----------
    dropped : reduction -> features left out.
    """

    def __init__(self, model: nn.Module, dropped: Mapping[Reduction, IntArray]) -> None:
        super().__init__()
        self._model = model
        self._dropped = {(one.module, one.before): (one, gone) for one, gone in dropped.items()}
        self._scope: list[str] = []
        self._counts: dict[str, int] = {}

    def hooks(self) -> Iterator[Any]:
        def enter(name: str, *_: Any) -> None:
            self._scope.append(name)

        def leave(*_: Any) -> None:
            self._scope.pop()

        for name, module in self._model.named_modules():
            yield module.register_forward_pre_hook(partial(enter, name))
            yield module.register_forward_hook(leave)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func.overloadpacket.__name__ in MEANS:
            module = self._scope[-1] if self._scope else ""
            count = self._counts.get(module, 0)
            self._counts[module] = count + 1
            if (module, count) in self._dropped:
                one, gone = self._dropped[module, count]
                args = (_without(args[0], one.axis, gone), *args[1:])
        return func(*args, **(kwargs or {}))


def _without(x: Tensor, axis: int, gone: IntArray) -> Tensor:
    kept = torch.ones(x.shape[axis], dtype=torch.bool, device="cpu")
    kept[torch.from_numpy(gone)] = False
    return x.index_select(axis, kept.nonzero().flatten())
