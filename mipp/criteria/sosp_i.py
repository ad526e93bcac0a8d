"""Second-order structured pruning, its individual form (SOSP-I, arXiv:2110.11395)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd.functional import hessian, jacobian

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.filters import sum_over_filters, weight_names
from mipp.criteria.shared.image_slopes import single_images
from mipp.criteria.shared.unit_gates import differentiable, run_with, tensors_of
from mipp.errors import DataError
from mipp.selection.scores import GroupScores

IMAGES = 64  # each has as many backward passes as the network has outputs
OUTPUTS = 1000
Values = npt.NDArray[np.float64]


def score_sosp_i(given: CriterionInput) -> GroupScores:
    """|w . gradient| + half of the sum over all units v of |w . H v|, for a unit's weights w.

    H is the Gauss-Newton matrix: what a unit's weights do to the outputs, by the curvature of the
    loss there. Unlike `sosp-h`, what two units do to each other cannot be made up for by a third.

    Source: Nonnenmacher et al. 2022, eqs. (4) to (6).

    Raises
    ------
    DataError : the network has more than 1,000 outputs, or several tensors of them.
    """
    tensors = tensors_of(given.model)
    weights = {
        name: tensors[name].requires_grad_(True) for name in weight_names(given.model).values()
    }
    slope: Values | float = 0.0
    bent: Values | float = 0.0
    seen = 0
    with differentiable(given.model):
        for image, label in single_images(given, IMAGES):
            outputs = run_with(given.model, tensors, image)
            _require_outputs(outputs)
            at = outputs.detach()
            of_outputs = partial(given.mean_loss, labels=label)
            first: Tensor = jacobian(of_outputs, at)  # type: ignore[no-untyped-call]
            second: Tensor = hessian(of_outputs, at)  # type: ignore[no-untyped-call]
            bend = second.double().cpu().numpy().reshape(2 * (at.numel(),))
            effects = np.stack([_effect(given, weights, each) for each in outputs.flatten()])
            slope = slope + first.flatten().double().cpu().numpy() @ effects
            bent = bent + effects.T @ bend @ effects
            seen += 1
    every = (np.abs(slope) + np.abs(bent).sum(1) / 2) / seen
    ends = np.cumsum([given.graph.widths[name] for name in given.graph.groups])[:-1]
    return dict(zip(given.graph.groups, np.split(every, ends), strict=True))


def _effect(given: CriterionInput, weights: Mapping[str, Tensor], output: Tensor) -> Values:
    """w . d output / d w of every unit, one group after the other."""
    slopes = torch.autograd.grad(
        output, list(weights.values()), retain_graph=True, materialize_grads=True
    )
    values = {
        name: weight.detach() * slope
        for (name, weight), slope in zip(weights.items(), slopes, strict=True)
    }
    found = sum_over_filters(given, values)
    return np.concatenate([found[name] for name in given.graph.groups])


def _require_outputs(outputs: object) -> None:
    if not isinstance(outputs, Tensor) or outputs.numel() > OUTPUTS:
        got = outputs.numel() if isinstance(outputs, Tensor) else f"a {type(outputs).__name__}"
        raise DataError(
            "sosp-i asks of every output of an image how the units change it.\nExpected one tensor "
            f"of at most {OUTPUTS:,}, got {got}; take sosp-h, which needs no outputs one by one."
        )
