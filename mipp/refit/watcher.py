"""Watches layers while a network runs, and the sums that their outputs go into."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from mipp.hooked_mode import HookedMode
from mipp.layers import Layer, layer_at

OnOutput = Callable[[str, Tensor, Tensor], Tensor | None]
OnSum = Callable[[str, Tensor, str], Tensor | None]


class Watcher(HookedMode):
    """A context in which forward passes of a network are seen.

    Parameters
    ----------
    layers : names of the modules to watch.
    norm_after : layer -> the batch-norm that reads its output.
    on_output : (layer, its input, its output) -> what takes the output's place, or None. Of an
        attention it is the in-projection's output, and is not replaced.
    on_sum : called when a layer's output, normalised where a batch-norm follows, is added to
        another tensor of its shape, such as a skip connection: (layer, the other tensor, the
        layer that made it or "") -> what takes the place of the layer's side, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Iterable[str],
        norm_after: Mapping[str, str],
        on_output: OnOutput,
        on_sum: OnSum,
    ) -> None:
        super().__init__()
        self._model, self._layers, self._norm_after = model, list(layers), norm_after
        self._on_output, self._on_sum = on_output, on_sum
        self._made: dict[int, tuple[str, Tensor]] = {}  # id of a tensor -> layer, kept alive

    def hooks(self) -> Iterator[Any]:
        for name in self._layers:
            layer = layer_at(self._model, name)
            if layer.heads() is not None:
                hook = self._attention_hook(name, layer)
                yield layer.module.register_forward_pre_hook(hook)
                continue
            yield layer.module.register_forward_hook(self._layer_hook(name))
            if name in self._norm_after:
                norm = layer_at(self._model, self._norm_after[name])
                if not norm.activates:
                    yield norm.module.register_forward_hook(self._norm_hook(name))

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._made.clear()

    def _layer_hook(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            changed = self._on_output(name, inputs[0], output)
            output = output if changed is None else changed
            if name not in self._norm_after:
                self._made[id(output)] = (name, output)
            return changed

        return hook

    def _attention_hook(self, name: str, layer: Layer) -> Any:
        """Before an attention runs, since its in-projection is not called as a module."""

        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self._on_output(name, *layer.sides(inputs, None))

        return hook

    def _norm_hook(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self._made[id(output)] = (name, output)

        return hook

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if is_plain_sum(function, args, kwargs):
            for mine, other in (args[:2], args[1::-1]):
                name, partner = self._maker(mine), self._maker(other)
                changed = self._on_sum(name, other, partner) if name else None
                if changed is not None:
                    total = changed + other
                    return args[0].copy_(total) if function.__name__ == "add_" else total
        return function(*args, **(kwargs or {}))

    def _maker(self, tensor: Tensor) -> str:
        return self._made[id(tensor)][0] if id(tensor) in self._made else ""


def is_plain_sum(function: Any, args: tuple[Any, ...], kwargs: Any) -> bool:
    """Whether a call adds two tensors of one shape."""
    return (
        getattr(function, "__name__", "") in ("add", "add_")
        and not kwargs
        and len(args) == 2
        and all(isinstance(side, Tensor) for side in args)
        and args[0].shape == args[1].shape
    )
