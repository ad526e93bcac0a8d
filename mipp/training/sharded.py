"""A network whose weights are divided among the processes that train it (FSDP)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict as whole
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from mipp.device import device_of
from mipp.metrics import count_params
from mipp.process.ranks import Ranks
from mipp.training.spread import Spread

BLOCK = 2**20  # parameters of a part of a network that is gathered by itself
ALL = whole.StateDictOptions(full_state_dict=True)


class Shards(Spread):
    """A part of every weight, of its gradient and of the optimizer's state on each process.

    The weights of a block are gathered when it runs. Whoever saves has all of them for a moment.
    """

    is_sharded = True

    def __init__(self, model: nn.Module, ranks: Ranks) -> None:
        model = copy.deepcopy(model)
        mesh = init_device_mesh(device_of(model).type, (ranks.size,))
        for block in (*_blocks(model), model):
            fully_shard(block, mesh=mesh)
        super().__init__(model, ranks)

    def adding_up(self, last: bool) -> AbstractContextManager[Any]:
        """Within the block gradients are added up; only the last become all processes'."""
        self.model.set_requires_gradient_sync(last)  # type: ignore[operator]
        return nullcontext()

    def weights(self) -> dict[str, Tensor]:
        """All of its state, the same on every process."""
        weights = whole.get_model_state_dict(self.model, options=ALL)
        return cast(dict[str, Tensor], weights)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take up what `weights` gave."""
        whole.set_model_state_dict(self.model, dict(weights), options=ALL)

    def state_of(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """All state of its optimizer, the same on every process."""
        return dict(whole.get_optimizer_state_dict(self.model, optimizer, options=ALL))

    def load_state(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Take up what `state_of` gave."""
        whole.set_optimizer_state_dict(self.model, optimizer, state, options=ALL)


def _blocks(model: nn.Module) -> Iterator[nn.Module]:
    """Large members of sequences and lists, inner ones first, each once."""
    seen: set[nn.Module] = set()
    for container in reversed(list(model.modules())):
        if isinstance(container, (nn.Sequential, nn.ModuleList)):
            for block in container:
                runs = not isinstance(block, nn.ModuleList)
                if runs and block not in seen and count_params(block) >= BLOCK:
                    seen.add(block)
                    yield block
