"""What a method adds to the loss of a training, and does to the weights after its steps."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn


class Regulariser(Protocol):
    """A penalty beside the loss, a rule after each step, or both.

    Parameters of the loss that it brings belong to its penalty alone: weights are the model's.

    Example
    -------
    >>> class Lasso:  # the L1 norm of the scales of batch norms, as in network slimming
    ...     def penalty(self, model):
    ...         norms = [m for m in model.modules() if hasattr(m, "running_mean")]
    ...         return 1e-4 * sum(norm.weight.abs().sum() for norm in norms)
    ...     def after_step(self, model): ...
    ...     def state_dict(self): return {}
    ...     def load_state_dict(self, state): ...
    >>> round(Lasso().penalty(nn.Sequential(nn.Linear(2, 5), nn.BatchNorm1d(5))).item(), 6)
    0.0005
    """

    def penalty(self, model: nn.Module) -> Tensor:
        """What is added to the loss of every batch, shape (), with its gradient."""
        ...

    def after_step(self, model: nn.Module) -> None:
        """Called once the optimizer has moved the weights; may change them in place."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Its settings, and what a resumed training needs to go on: tensors and plain values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        ...
