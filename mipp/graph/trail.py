"""What one forward pass shows of a network's layers: their order and positions."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mipp.errors import ModelError
from mipp.evaluation import evaluating
from mipp.hooked_mode import hooked
from mipp.inputs import Inputs, call, tensors_in
from mipp.layers import Layer, layer_of


@dataclass
class Trail:
    """What one forward pass saw: calls per module in order, tensors' makers."""

    calls: dict[str, int] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)  # module -> its position in its last call
    positions: dict[str, int] = field(default_factory=dict)
    norm_after: dict[str, str] = field(default_factory=dict)

    def position(self, module: str) -> int:
        return list(self.calls).index(module)

    @property
    def repeated(self) -> frozenset[str]:
        """Modules that run more than once."""
        return frozenset(name for name, calls in self.calls.items() if calls > 1)


class _Recorder:
    """Fills a trail from the hooks of a network's leaves."""

    def __init__(self) -> None:
        self.trail = Trail()
        self._makers: dict[int, tuple[str, Tensor]] = {}  # id of a tensor -> maker, kept alive
        self._norms: dict[str, list[str]] = {}  # layer -> the norms that read its outputs

    def count(self, name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Before a call."""
        self.trail.calls[name] = self.trail.calls.get(name, 0) + 1
        self.trail.ends[name] = len(self.trail.calls) - 1

    def watch(
        self, name: str, layer: Layer, module: nn.Module, inputs: tuple[Any, ...], output: Any
    ) -> None:
        """After a call of a layer."""
        trail = self.trail
        if not inputs:
            return
        if layer.sampled:
            positions = layer.positions(layer.made_shape(inputs, output))
            trail.positions[name] = trail.positions.get(name, 0) + positions
        if layer.filters is not None and isinstance(output, Tensor):
            self._makers[id(output)] = (name, output)
        if layer.statistics is not None and id(inputs[0]) in self._makers:
            self._norms.setdefault(self._makers[id(inputs[0])][0], []).append(name)

    def finish(self) -> Trail:
        """What was seen; a norm follows a layer that runs several times if it does so each time."""
        for layer, norms in self._norms.items():
            calls = self.trail.calls[layer]
            if calls == 1 or norms == norms[:1] * calls:
                self.trail.norm_after[layer] = norms[-1]
        return self.trail


def run_once(model: nn.Module, example: Inputs) -> Trail:
    """Run a network on one input.

    Raises
    ------
    ModelError : it does not run, or gives no tensor.
    """
    recorder = _Recorder()
    layers = {name: (module, layer_of(module)) for name, module in model.named_modules()}
    watching = (
        module.register_forward_hook(partial(recorder.watch, name, layer))
        for name, (module, layer) in layers.items()
        if layer is not None and layer.role != "parts"
    )
    # before it runs: an attention projects its input before the module within runs
    counting = (
        module.register_forward_pre_hook(partial(recorder.count, name))
        for name, (module, layer) in layers.items()
        if (layer is not None and layer.role != "parts") or not any(True for _ in module.children())
    )
    with hooked(watching), hooked(counting), evaluating(model), torch.no_grad():
        output = call(model, example)
    if not tensors_in(output):
        raise ModelError(
            f"model {type(model).__name__} gives no tensor.\nExpected a tensor from forward, or "
            f"tuples, lists, dicts and data classes of them, got {type(output).__name__}; wrap "
            "the network in a module that returns its tensors."
        )
    return recorder.finish()
