"""Provable filter pruning by sensitivity (PFP, Liebenwein et al. 2020, arXiv:1911.07412)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import brentq
from torch import Tensor

from mipp.activations import Sampling, capture_rows
from mipp.criteria.shared.contributions import weights_read
from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.samples import first_inputs
from mipp.inputs import count
from mipp.layers import layer_at
from mipp.selection.scores import GroupScores

IMAGES = 256
ROWS = 512
TOGETHER = 32  # images whose rows are held at once
LOG_FAILURES = 3.0  # log(2 / share of the outputs for which the bound may fail), as in the code
ENTRIES = 2**22  # of contributions that are held at once

Values = npt.NDArray[np.float64]


def score_pfp(given: CriterionInput) -> GroupScores:
    """The relative error of the next layers up to which a unit is kept.

    A unit's sensitivity is the largest share that it has in any output of the layers that read
    it, for any row of a sample, positive and negative parts apart. Units sampled by their
    sensitivity, so many and so weighted as `error_for` says, keep every such output to the
    error; a group keeps as many of its most sensitive units as that sample is expected to hold.

    Source: arXiv:1911.07412v2, the deterministic variant of the authors' code. Departs: a unit's
    weights are taken together, not one by one; weights of what is kept are left to the refit.
    """
    return {name: tolerated(values) for name, values in sensitivities(given).items()}


def sensitivities(given: CriterionInput) -> dict[str, Values]:
    """By group, the sensitivity of each unit, 0 to 1; of several readers the largest."""
    found = {name: np.zeros(width) for name, width in given.graph.widths.items()}
    batches = list(first_inputs(given, IMAGES, TOGETHER))
    sampling = Sampling(ROWS, sum(map(count, batches)), given.seed)
    for rows in capture_rows(given.model, given.graph.pairs, batches, sampling):
        for pair in given.graph.pairs:
            weights = weights_read(layer_at(given.model, pair.consumer), pair)
            step = max(1, ENTRIES // (len(weights) * len(found[pair.group])))
            for part in torch.split(rows[pair.name][0], step):
                largest = largest_shares(part, weights).double().cpu().numpy()
                found[pair.group] = np.maximum(found[pair.group], largest)
    return found


def largest_shares(x: Tensor, weights: Tensor) -> Tensor:
    """Largest share of each channel in an output, over rows, outputs and signs, (channels,).

    Parameters
    ----------
    x : rows (n, channels, block).
    weights : (outputs, channels, block).
    """
    largest = x.new_zeros(x.shape[1])
    for inputs in (x.clamp_min(0), (-x).clamp_min(0)):
        for side in (weights.clamp_min(0), (-weights).clamp_min(0)):
            parts = torch.einsum("ncb,ocb->noc", inputs, side.to(inputs))
            whole = parts.sum(2, keepdim=True)
            shares = parts / torch.where(whole > 0, whole, torch.inf)
            largest = torch.maximum(largest, shares.amax((0, 1)))
    return largest


def error_for(samples: float, total: float) -> float:
    """The relative error of an output for which so many samples are enough, by Bernstein.

    A draw of unit j, with chance p_j = s_j / total, stands for its part over p_j. The mean over the
    draws then misses the output by more than the error in at most 2 exp(-`LOG_FAILURES`) of all
    samples. It solves samples = `LOG_FAILURES` total (6 + 2 error) / (3 error ** 2).

    Parameters
    ----------
    total : of the group's sensitivities.
    """
    scale = LOG_FAILURES * total
    return float((scale + np.sqrt(scale**2 + 18 * samples * scale)) / (3 * samples))


def tolerated(sensitivity: Values) -> Values:
    """Per unit, the error at which a sample is expected to hold just the units before it."""
    total = float(sensitivity.sum())
    errors = np.zeros(len(sensitivity))
    chances = sensitivity / (total or 1.0)
    ranked = np.argsort(-sensitivity, kind="stable")
    for rank, unit in enumerate(ranked[: np.count_nonzero(sensitivity)]):
        errors[unit] = error_for(_samples_holding(chances, rank + 0.5), total)
    return errors


def _samples_holding(chances: Values, units: float) -> float:
    """How many samples are expected to hold so many different units."""
    present = chances[chances > 0]
    if len(present) == 1:
        return units

    def missing(log: float) -> float:
        return float(-np.expm1(np.exp(log) * np.log1p(-present)).sum()) - units

    return float(np.exp(brentq(missing, np.log(1e-6), 700.0)))
