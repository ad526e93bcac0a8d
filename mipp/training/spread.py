"""A network as its training runs it: by one process, or by several that hold a copy each.

Torch's own parts do the work: `DistributedDataParallel`, `SyncBatchNorm`, and for weights that are
divided (`mipp.training.sharded`) `fully_shard`. Lightning Fabric 2.6 and accelerate 1.15 wrap these
same parts, and were weighed. Fabric has FSDP on GPUs alone, so that no test on a CPU reaches it;
accelerate keeps its settings for a process (`AcceleratorState`), so that a second training in it,
such as the next point of a sweep, cannot have another precision. Both start processes by torch's
launcher, which ends with a traceback a rank, and leave what this package needs its own of: where a
training goes on, when it saves, and what it says when a process dies.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mipp.inputs import tensors_in
from mipp.process.ranks import Ranks


class Spread:
    """A network of one process, and how several would do each of these.

    Attributes
    ----------
    model : the network whose parameters are trained.
    run : what is called in its place, so that gradients become those of all processes.
    is_sharded : whether a pass waits for the passes of the others.
    """

    is_sharded = False

    def __init__(self, model: nn.Module, ranks: Ranks) -> None:
        self.model, self.ranks = model, ranks
        self.run: Callable[[Tensor], Any] = model

    def compile(self) -> None:
        """Run it by torch's compiler from now on."""
        self.run = torch.compile(self.run)

    def adding_up(self, last: bool) -> AbstractContextManager[Any]:
        """Within the block gradients are added up; only the last become all processes'."""
        return nullcontext()

    def merge_statistics(self) -> None:
        """Make what batch norms have seen the same on every process."""

    def weights(self) -> dict[str, Tensor]:
        """All of its state, the same on every process."""
        return self.model.state_dict()

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take up what `weights` gave."""
        self.model.load_state_dict(weights)

    def state_of(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """All state of its optimizer, the same on every process."""
        return optimizer.state_dict()

    def load_state(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Take up what `state_of` gave."""
        optimizer.load_state_dict(state)


class Replicas(Spread):
    """A copy on each process, whose gradients are averaged while they are computed.

    Batch norms are synchronised on GPUs. Torch has none that are for the CPU: there each process
    scales by the statistics of its part of a batch, and those that are kept are averaged after
    every epoch, as timm's `dist_bn=reduce` does.

    Parameters
    ----------
    model : on its device.
    images : (b, c, h, w), the same on every process; they find the parameters that have no
        gradient, for which nobody is to wait.
    """

    def __init__(self, model: nn.Module, ranks: Ranks, images: Tensor) -> None:
        model = copy.deepcopy(model)
        if images.is_cuda:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        super().__init__(model, ranks)
        alone = [name for name, _ in model.named_buffers()] + _without_gradient(model, images)
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(  # type: ignore[no-untyped-call]
            model, alone
        )
        self._replica = DistributedDataParallel(model)
        self.run = self._replica

    def adding_up(self, last: bool) -> AbstractContextManager[Any]:
        """Within the block gradients are added up; only the last become all processes'."""
        return nullcontext() if last else self._replica.no_sync()

    def merge_statistics(self) -> None:
        """Make what batch norms have seen the same on every process."""
        for buffer in self.model.buffers():
            if buffer.is_floating_point():
                buffer.copy_(self.ranks.mean(buffer))


def _without_gradient(model: nn.Module, images: Tensor) -> list[str]:
    """Names of parameters that training leaves alone, such as of a head that is not read."""
    model = copy.deepcopy(model).train()
    with torch.random.fork_rng([images.device] if images.is_cuda else []):
        outputs = [x.sum() for x in tensors_in(model(images)) if x.is_floating_point()]
    torch.autograd.backward(torch.stack(outputs).sum())
    return [name for name, parameter in model.named_parameters() if parameter.grad is None]
