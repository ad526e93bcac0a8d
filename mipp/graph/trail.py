"""What one forward pass shows of a network's layers: their order, positions and costs."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mipp.errors import ModelError
from mipp.evaluation import evaluating
from mipp.graph.kinds import CONSUMERS, CONVS, LAYER_NORMS, NORMS, TRANSPOSED
from mipp.inputs import Inputs, call, tensors_of
from mipp.layers.attention import is_plain

LAYERS = (*CONVS, *NORMS, *LAYER_NORMS, nn.Linear)  # though a subclass may hold an activation


@dataclass
class Trail:
    """What one forward pass saw: calls per module in order, MACs, tensors' makers."""

    calls: dict[str, int] = field(default_factory=dict)
    macs: dict[str, int] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    norm_after: dict[str, str] = field(default_factory=dict)

    def position(self, module: str) -> int:
        return list(self.calls).index(module)


class _Recorder:
    """Fills a trail from the hooks of a network's leaves."""

    def __init__(self) -> None:
        self.trail = Trail()
        self._makers: dict[int, tuple[str, Tensor]] = {}  # id of a tensor -> maker, kept alive

    def count(self, name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Before a call."""
        self.trail.calls[name] = self.trail.calls.get(name, 0) + 1

    def watch(self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """After a call."""
        if isinstance(module, nn.MultiheadAttention) and inputs:
            tokens = inputs[0].numel() // inputs[0].shape[-1]
            self.trail.positions[name] = tokens
            self._add_macs(name, tokens * module.in_proj_weight.numel())
        if not inputs or not isinstance(output, Tensor):
            return
        if isinstance(module, CONSUMERS):
            width = output.shape[-1 if isinstance(module, nn.Linear) else 1]
            self.trail.positions[name] = output[0].numel() // width
        if isinstance(module, (*CONVS, nn.Linear)):
            self._makers[id(output)] = (name, output)
            self._add_macs(name, output.numel() * module.weight[0].numel())
        if isinstance(module, TRANSPOSED):
            self._add_macs(name, inputs[0].numel() * module.weight[0].numel())
        if isinstance(module, NORMS) and id(inputs[0]) in self._makers:
            self.trail.norm_after[self._makers[id(inputs[0])][0]] = name

    def _add_macs(self, name: str, macs: int) -> None:
        self.trail.macs[name] = self.trail.macs.get(name, 0) + macs


def run_once(model: nn.Module, example: Inputs) -> Trail:
    """Run a network on one input.

    Raises
    ------
    ModelError : it does not run.
    """
    recorder = _Recorder()
    leaves = [
        (name, module)
        for name, module in model.named_modules()
        if is_plain(module)
        or isinstance(module, LAYERS)
        or not any(True for _ in module.children())
    ]
    handles = [m.register_forward_hook(partial(recorder.watch, name)) for name, m in leaves]
    # before it runs: an attention projects its input before the module within runs
    handles += [m.register_forward_pre_hook(partial(recorder.count, name)) for name, m in leaves]
    try:
        with evaluating(model), torch.no_grad():
            call(model, example)
    except Exception as error:
        shapes = " and ".join(str(tuple(tensor.shape)) for tensor in tensors_of(example))
        raise ModelError(
            f"model {type(model).__name__} does not run on an input of shape {shapes}: "
            f"{type(error).__name__}: {error}.\n"
            "Give calibration inputs of the shape that the model expects."
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return recorder.trail
