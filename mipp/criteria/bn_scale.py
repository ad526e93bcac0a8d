"""Scale factors of batch norm (network slimming, Liu et al. 2017, arXiv:1708.06519v1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mipp.activations import capture_whole
from mipp.criteria.shared.criterion import CriterionInput
from mipp.graph import Member
from mipp.graph.kinds import NORMS, TOKENWISE
from mipp.information.moments import MomentSums
from mipp.selection.scores import GroupScores


def score_bn_scale(given: CriterionInput) -> GroupScores:
    """Absolute batch-norm factor of a unit, the mean over the batch norms that carry it.

    Departs: the paper trains the factors towards zero first, which `train` does not. A unit
    without a batch norm, as in LeNet-5 or a transformer, is given the factor of one put behind
    its layer so that nothing changes: the standard deviation of its output over the images and
    positions of the calibration batches, the mean over the layers that make it.
    """
    scores, bare = {}, {}
    for name, group in given.graph.groups.items():
        norms = [m for m in group.passengers if _is_norm(given.model, m)]
        if norms:
            scores[name] = _mean(norms, lambda m: _factors(given.model.get_submodule(m.module)))
        else:
            bare[name] = [m for m in group.producers if _has_weights(given.model, m)]
    if bare:
        spreads = _spreads(given, [m.module for members in bare.values() for m in members])
        scores |= {name: _mean(bare[name], lambda m: spreads[m.module]) for name in bare}
    return {name: scores[name] for name in given.graph.groups}


def _is_norm(model: nn.Module, member: Member) -> bool:
    return isinstance(model.get_submodule(member.module), NORMS)


def _has_weights(model: nn.Module, member: Member) -> bool:
    return any(True for _ in model.get_submodule(member.module).parameters())


def _factors(norm: nn.Module) -> Tensor:
    """Absolute factors (features,); 1 where the norm has none."""
    if norm.weight is None:
        return torch.ones(norm.num_features)
    assert isinstance(norm.weight, Tensor)
    return norm.weight.detach().abs()


def _mean(members: Sequence[Member], values: Callable[[Member], Tensor]) -> npt.NDArray[np.float64]:
    """Per channel, the mean of a value over its features and members."""
    per_member = [values(m).double().cpu().numpy()[m.features].mean(1) for m in members]
    return np.asarray(np.mean(per_member, axis=0))


def _spreads(given: CriterionInput, layers: Sequence[str]) -> dict[str, Tensor]:
    """Standard deviation of every output feature of some layers, (features,) each."""
    sums = {name: MomentSums() for name in layers}
    for outputs in capture_whole(given.model, layers, "outputs", given.inputs()):
        for name, y in outputs.items():
            tokens = isinstance(given.model.get_submodule(name), TOKENWISE)
            rows = (y if tokens else y.movedim(1, -1)).flatten(0, -2)
            sums[name].add(rows[:, :0], rows)
    found = {name: one.moments() for name, one in sums.items()}
    return {name: (one.yy / one.n).sqrt() for name, one in found.items()}
