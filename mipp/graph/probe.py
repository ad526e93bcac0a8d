"""Proof by example: what is cut must be what was zero.

The dependency graph follows operations by name and takes unknown ones to keep channels apart.
Where one mixes or moves channels (softmax, a shuffle, a mean over channels), a cut would be
wrong without an error, so every group is tried before it is offered.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from mipp.errors import reason_of
from mipp.evaluation import evaluating, forget
from mipp.graph.channels import ChannelGroup
from mipp.graph.cutting import cut_channels
from mipp.graph.kept_statistics import KeptReductions, KeptStatistics
from mipp.graph.passes import IN_EVAL, Pass
from mipp.graph.reasons import Reason
from mipp.graph.record import Reduction
from mipp.graph.tied import retie, tied
from mipp.hooked_mode import hooked
from mipp.inputs import Inputs, each, tensors_in
from mipp.layers import IntArray, Layer, layer_at

TRIALS = 3  # cuts at random, the first of half of the channels
MOVED = "a trial cut changed other channels too: they are mixed or moved on the way"
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}  # of the largest output


Key = TypeVar("Key")
Fault = Callable[[Mapping[str, ChannelGroup]], Reason | None]


def all_sound(
    model: nn.Module,
    groups: Mapping[str, ChannelGroup],
    example: Inputs,
    passes: Sequence[Pass] = (IN_EVAL,),
) -> bool:
    """Whether all groups together can be cut rightly, at random and several times.

    A cut is right when the smaller network computes what the whole one computes with the cut
    channels zero at the input of every consumer and each layer-norm's statistics, or mean of
    channels in forward, taken over the other channels only. Tried on random weights and input, in
    every pass.
    """
    if not groups:
        return True
    return Probe(model, example, _bare(groups), passes).first_fault(groups) is None


def find_unsound(
    model: nn.Module,
    groups: Mapping[str, ChannelGroup],
    example: Inputs,
    passes: Sequence[Pass] = (IN_EVAL,),
) -> dict[str, Reason]:
    """Groups that cannot be cut rightly, with the reason; all are tried at once, then apart.

    What is right is as for `all_sound`.
    """
    bare = _bare(groups)
    probe = Probe(model, example, bare, passes)
    fault = fails_on_shapes(probe.model, probe.inputs, passes)
    found = fails_apart(groups, fault) if fault is not None else {}
    left = {name: group for name, group in groups.items() if name not in found}
    if left and probe.first_fault(left) is not None and not probe.runs():
        probe = Probe(model, example, bare, passes, torch.float32)
    faulty = fails_apart(left, probe.first_fault)
    if not found and not faulty:
        return {}
    found |= faulty
    sound = {name: group for name, group in groups.items() if name not in found}
    if sound and probe.first_fault(sound) is not None:
        found |= _clashing(probe, sound)
    return found


def _bare(groups: Mapping[str, ChannelGroup]) -> set[str]:
    return {parameter.module for group in groups.values() for parameter in group.parameters}


class Probe:
    """A copy of a network on the CPU with random weights and input.

    Parameters
    ----------
    bare : buffers that are cut by name, and are random too.
    passes : that a cut is tried in.
    dtype : single precision is for networks whose forward makes such tensors of its own.
    """

    def __init__(
        self,
        model: nn.Module,
        example: Inputs,
        bare: Container[str] = (),
        passes: Sequence[Pass] = (IN_EVAL,),
        dtype: torch.dtype = torch.float64,
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        self.model, self.passes = copy.deepcopy(model).to("cpu", dtype), passes
        _shake(self.model, generator, bare)
        forget(self.model)
        self.inputs = each(example, lambda tensor: _random_like(tensor, generator, dtype))
        self.tolerance = TOLERANCE[dtype]

    def runs(self) -> bool:
        """Whether the network runs so with all of its channels."""
        try:
            with torch.no_grad(), evaluating(self.model):
                for way in self.passes:
                    way.run(self.model, self.inputs)
        except Exception:  # of the network's own code
            return False
        return True

    def fault(self, groups: Mapping[str, ChannelGroup], seed: int = 0) -> Reason | None:
        """What is wrong with a random cut; None if nothing is.

        Parameters
        ----------
        seed : with 0 half of every group's channels go, else any number of each group's: forward
            may read one group's width and mean another's.
        """
        generator = np.random.default_rng(seed)
        dropped = {name: _drawn(group.width, seed, generator) for name, group in groups.items()}
        return _fault(self, groups, dropped)

    def first_fault(self, groups: Mapping[str, ChannelGroup]) -> Reason | None:
        """That of several cuts: one alone could share the symmetry of a faulty operation."""
        faults = (self.fault(groups, seed) for seed in range(TRIALS))
        return next((fault for fault in faults if fault is not None), None)

    def apart(self, groups: Mapping[str, ChannelGroup]) -> dict[str, Reason]:
        """Groups that are wrong alone, with what is wrong with them."""
        return fails_apart(groups, self.fault)


def _drawn(width: int, seed: int, generator: np.random.Generator) -> IntArray:
    order = generator.permutation(width)
    return np.sort(order[: generator.integers(1, width) if seed else width // 2])


def _random_like(tensor: Tensor, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Two random inputs of this one's shape; numbers that are not real, such as indices, stay."""
    if not tensor.is_floating_point():
        return tensor.cpu().expand(2, *tensor.shape[1:])
    return torch.randn(2, *tensor.shape[1:], generator=generator, dtype=dtype, device="cpu")


def fails_on_shapes(
    model: nn.Module, inputs: Inputs, passes: Sequence[Pass] = (IN_EVAL,)
) -> Fault | None:
    """What fails in forward when channels of groups go, half or any number: shapes alone tell.

    It costs next to nothing. None for a network that looks at its values, which does not run so.
    """
    shapes = copy.deepcopy(model).to("meta")
    retie(shapes, tied(model))
    given = each(inputs, lambda x: x.to("meta").expand(2, *x.shape[1:]))

    def fault(some: Mapping[str, ChannelGroup]) -> Reason | None:
        for seed in (0, 1):
            generator = np.random.default_rng(seed)
            dropped = {name: _drawn(one.width, seed, generator) for name, one in some.items()}
            try:
                cut = cut_channels(shapes, some, dropped, parameters="shared")
                with torch.no_grad(), evaluating(cut):
                    for way in passes:
                        way.run(cut, given)
            except Exception as error:
                return _cutting_fails(error)
        return None

    return None if fault({}) else fault


def fails_apart(groups: Mapping[str, ChannelGroup], fault_of: Fault) -> dict[str, Reason]:
    """Groups that are wrong alone, found by halving: a half without a fault is tried only once."""
    fault = fault_of(groups) if groups else None
    if fault is None:
        return {}
    if len(groups) == 1:
        return dict.fromkeys(groups, fault)
    names, middle = list(groups), len(groups) // 2
    halves = ({name: groups[name] for name in part} for part in (names[:middle], names[middle:]))
    return {name: why for half in halves for name, why in fails_apart(half, fault_of).items()}


def _clashing(probe: Probe, groups: Mapping[str, ChannelGroup]) -> dict[str, Reason]:
    """Groups that are right alone but not beside those before them."""
    kept: dict[str, ChannelGroup] = {}
    found = {}
    for name, group in groups.items():
        fault = probe.first_fault(kept | {name: group})
        if fault is None:
            kept[name] = group
        else:
            found[name] = Reason(fault.category, f"together with other groups, {fault}")
    return found


def _shake(model: nn.Module, generator: torch.Generator, bare: Container[str]) -> None:
    """Random weights that pass a signal on, so that neither a zero nor depth hides a fault."""
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32, device="cpu")
        inputs = parameter.shape[1:].numel() if parameter.ndim > 1 else 0
        mean, scale = (0.0, (2 / inputs) ** 0.5) if inputs else (0.7, 0.3)
        parameter.data.copy_(noise.mul_(scale).add_(mean))
    for name, buffer in model.named_buffers():
        known = name.endswith(("running_mean", "running_var")) or name in bare
        if buffer.is_floating_point() and known:
            buffer.copy_(torch.rand(buffer.shape, generator=generator, device="cpu") + 0.5)


def _fault(
    probe: Probe, groups: Mapping[str, ChannelGroup], dropped: Mapping[str, IntArray]
) -> Reason | None:
    model, inputs = probe.model, probe.inputs
    try:
        cut = cut_channels(model, groups, dropped, parameters="shared")
        with torch.no_grad(), evaluating(cut), evaluating(model):
            # first: where it fails it mostly does so early
            got = _flat([way.run(cut, inputs) for way in probe.passes])
            with _zeroed(model, groups, dropped):
                expected = _flat([way.run(model, inputs) for way in probe.passes])
    except Exception as error:
        return _cutting_fails(error)
    if not expected.numel():
        return Reason("unproven", "forward gives empty outputs, which show no channel")
    if got.shape != expected.shape or not bool(
        (got - expected).abs().max() <= probe.tolerance * expected.abs().max()
    ):
        return Reason("unproven", MOVED)
    return None


def _cutting_fails(error: Exception) -> Reason:
    what = "forward does not run without some of its channels"
    return Reason("sizes", f"{what}: {reason_of(error)}")


@contextmanager
def _zeroed(
    model: nn.Module, groups: Mapping[str, ChannelGroup], dropped: Mapping[str, IntArray]
) -> Iterator[None]:
    """Within the block, dropped channels are zero at every consumer's input.

    Nor do they count in the statistics of any layer-norm, nor in those written in forward.
    """
    gone: dict[str, list[IntArray]] = {}
    means: dict[Reduction, list[IntArray]] = {}
    for name, group in groups.items():
        for member in group.passengers:
            if layer_at(model, member.module).couples:
                left_out = member.features[dropped[name]].ravel()
                gone.setdefault(member.module, []).append(left_out)
        for one in group.statistics:
            left_out = one.features[dropped[name]].ravel()
            means.setdefault(Reduction(one.module, one.before, one.axis), []).append(left_out)
    with ExitStack() as modes:
        modes.enter_context(hooked(_zeroing(model, groups, dropped)))
        modes.enter_context(KeptStatistics(model, _joined(gone)))
        if means:
            modes.enter_context(KeptReductions(model, _joined(means)))
        yield


def _zeroing(
    model: nn.Module, groups: Mapping[str, ChannelGroup], dropped: Mapping[str, IntArray]
) -> Iterator[Any]:
    """Registers hooks that make dropped channels zero where they are read."""
    for name, group in groups.items():
        for member in group.readers:
            layer = layer_at(model, member.module)
            features = torch.from_numpy(member.features[dropped[name]].ravel())

            def zero(
                module: nn.Module,
                arguments: tuple[Any, ...],
                layer: Layer = layer,
                features: Tensor = features,
            ) -> tuple[Any, ...]:
                filled = arguments[0].index_fill(layer.inputs.axis, features, 0.0)
                return layer.with_input(arguments, filled)

            yield layer.module.register_forward_pre_hook(zero)


def _joined(parts: Mapping[Key, list[IntArray]]) -> dict[Key, IntArray]:
    return {key: np.concatenate(some) for key, some in parts.items()}


def _flat(output: Any) -> Tensor:
    """All tensors of an output in one row."""
    return torch.cat([tensor.flatten() for tensor in tensors_in(output)])
