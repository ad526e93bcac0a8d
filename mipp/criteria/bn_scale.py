"""Scale factors of batch norm (network slimming, Liu et al. 2017, arXiv:1708.06519v1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from mipp.activations import capture_whole
from mipp.criteria.shared.criterion import CriterionInput
from mipp.graph import Member
from mipp.information.moments import MomentSums
from mipp.layers import layer_at
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
        factors = [(m, layer_at(given.model, m.module).factors) for m in group.passengers]
        norms = [(m, own.detach().abs()) for m, own in factors if own is not None]
        if norms:
            scores[name] = _mean(norms)
        else:
            bare[name] = [m for m in group.producers if _has_weights(given.model, m)]
    if bare:
        spreads = _spreads(given, [m.module for members in bare.values() for m in members])
        scores |= {n: _mean([(m, spreads[m.module]) for m in ms]) for n, ms in bare.items()}
    return {name: scores[name] for name in given.graph.groups}


def _has_weights(model: nn.Module, member: Member) -> bool:
    return any(True for _ in model.get_submodule(member.module).parameters())


def _mean(values: Sequence[tuple[Member, Tensor]]) -> npt.NDArray[np.float64]:
    """Per channel, the mean of a value (features,) over its features and members."""
    per_member = [value.double().cpu().numpy()[m.features].mean(1) for m, value in values]
    return np.asarray(np.mean(per_member, axis=0))


def _spreads(given: CriterionInput, layers: Sequence[str]) -> dict[str, Tensor]:
    """Standard deviation of every output feature of some layers, (features,) each."""
    sums = {name: MomentSums() for name in layers}
    for outputs in capture_whole(given.model, layers, "outputs", given.inputs()):
        for name, calls in outputs.items():
            tokens = layer_at(given.model, name).outputs.axis == -1
            for y in calls:
                rows = (y if tokens else y.movedim(1, -1)).flatten(0, -2)
                sums[name].add(rows[:, :0], rows)
    found = {name: one.moments() for name, one in sums.items()}
    return {name: (one.yy / one.n).sqrt() for name, one in found.items()}
