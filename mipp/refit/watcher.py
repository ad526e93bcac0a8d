"""Watches layers while a network runs, and the sums that their outputs go into."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from mipp.graph import ChannelGraph
from mipp.graph.outputs import is_plain_sum
from mipp.hooked_mode import Hooked
from mipp.layers import Layer, layer_at

OnOutput = Callable[[str, Tensor, Tensor], Tensor | None]
OnSum = Callable[[str, Tensor], Tensor | None]
OnInput = Callable[[str, Tensor], None]


class Watcher(Hooked, TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context in which forward passes of a network are seen, those of its own thread.

    Sees sums below `nn.Module`, where `y + x`, `y += x` and `torch.add(y, x)` are one.

    Parameters
    ----------
    layers : names of the modules to watch.
    sums : those of them whose sums are watched too; the graph knows that each goes into one.
    on_output : (layer, its input, its output) -> what takes the output's place, or None. Of an
        attention it is the in-projection's output, and is not replaced.
    on_sum : called when a layer's output, normalised where a batch-norm follows, is added to
        another tensor of its shape, such as a skip connection: (layer, the other tensor) -> what
        takes the place of the layer's side, or None.
    on_input : called before a layer runs: (layer, its input). Not of an attention.
    """

    def __init__(
        self,
        model: nn.Module,
        graph: ChannelGraph,
        layers: Iterable[str],
        sums: Iterable[str],
        on_output: OnOutput,
        on_sum: OnSum,
        on_input: OnInput | None = None,
    ) -> None:
        super().__init__()
        self._model, self._norm_after = model, graph.norm_after
        self._layers, self._sums = list(layers), set(sums)
        self._on_output, self._on_sum, self._on_input = on_output, on_sum, on_input
        self._asking = False
        self._thread = threading.get_ident()
        self._made: dict[int, tuple[str, Tensor]] = {}  # id of a tensor -> layer, kept alive

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._made.clear()

    def hooks(self) -> Iterator[Any]:
        for name in self._layers:
            layer = layer_at(self._model, name)
            if layer.inner:
                hook = self._inner_hook(name, layer)
                yield layer.module.register_forward_pre_hook(hook)
                continue
            if self._on_input is not None:
                yield layer.module.register_forward_pre_hook(self._input_hook(name, self._on_input))
            yield layer.module.register_forward_hook(self._layer_hook(name))
            if name in self._sums and name in self._norm_after:
                norm = self._model.get_submodule(self._norm_after[name])
                yield norm.register_forward_hook(self._norm_hook(name))

    def _layer_hook(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            if self._asking or self._is_other_thread():  # asking runs what a layer is made of
                return None
            changed = self._ask(name, inputs[0], output)
            output = output if changed is None else changed
            if name in self._sums and name not in self._norm_after:
                self._made[id(output)] = (name, output)
            return changed

        return hook

    def _input_hook(self, name: str, on_input: OnInput) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if not self._asking and not self._is_other_thread():
                with self._unwatched():
                    on_input(name, inputs[0])

        return hook

    def _inner_hook(self, name: str, layer: Layer) -> Any:
        """Before it runs, since what it does with its inputs first is not called as a module."""

        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if not self._is_other_thread():
                self._ask(name, *layer.sides(inputs, None))

        return hook

    def _norm_hook(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if not self._is_other_thread():
                self._made[id(output)] = (name, output)

        return hook

    def _ask(self, name: str, x: Tensor, output: Tensor) -> Tensor | None:
        """What takes an output's place."""
        with self._unwatched():
            return self._on_output(name, x, output)

    @contextmanager
    def _unwatched(self) -> Iterator[None]:
        """Within the block nothing that is computed is watched."""
        self._asking = True
        try:
            with _disable_current_modes():
                yield
        finally:
            self._asking = False

    def _is_other_thread(self) -> bool:
        return threading.get_ident() != self._thread

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if self._made and is_plain_sum(operator, args, kwargs):
            for mine, other in (args, args[::-1]):
                if id(mine) in self._made:
                    name, _ = self._made.pop(id(mine))
                    changed = self._on_sum(name, other)
                    if changed is not None:
                        mine.copy_(changed)
        return operator(*args, **(kwargs or {}))
