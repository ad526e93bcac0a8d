"""Orders in which features of a table leave or are taken, for what they tell about the targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mipp.criteria.mifs import BETA
from mipp.criteria.shared.taking import taking_order
from mipp.information.estimators import Estimator, PairData
from mipp.information.pairwise import pairwise_information
from mipp.information.shapley import gains, shapley_values
from mipp.selection.rules import Confidence, Consumer, Threshold
from mipp.selection.verdict import Verdict
from mipp.selection.visits import best_first, visit_once, visiting_order
from mipp.settings import Gaussian

Values = npt.NDArray[np.float64]


class Ordered(NamedTuple):
    """Features that stay, the others from the last that left to the first, and nats of each.

    Nats are what a feature adds to those that were still there when it was decided; in an order of
    taking, what it tells alone; by SAGE its share, which has a standard error.
    """

    kept: list[int]
    gone: list[int]
    nats: Values
    errors: Values | None = None


def table(x: Tensor, y: Tensor) -> PairData:
    """Rows of features x (n, d) and targets y (n, m) as an estimator reads them."""
    parts = [(x.unsqueeze(2), y)]  # a feature is a channel of one value
    return PairData("table", len(x), x.shape[1], 1, lambda: parts)


def eliminate(data: PairData, estimator: Estimator, settings: Any, seed: int, keep: int) -> Ordered:
    """Drop the feature that adds least to all that are left, until `keep` are."""
    answers = estimator.answers(estimator.prepare(data, settings, seed), data, settings, seed)
    targets = _all_targets(data)
    rule = Threshold(float("inf"))
    consumers = [Consumer(answers.eliminate(targets))]
    return _ordered(best_first(consumers, answers.single(targets), rule, keep))


def eliminate_surely(
    data: PairData, estimator: Estimator, settings: Any, seed: int, rule: Confidence
) -> Ordered:
    """Visit each feature once, the one that tells least alone first; the rule says if it stays.

    Source: arXiv:2401.11512 with the test of arXiv:2411.00147v1 section 4.
    """
    samples = estimator.samples(estimator.prepare(data, settings, seed), data, settings, seed)
    targets = _all_targets(data)
    single = samples.single(targets)
    elimination = samples.eliminate_in_order(targets, visiting_order(single))
    return _ordered(visit_once([Consumer(elimination)], single, rule, floor=1))


def share_out(data: PairData, estimator: Estimator, settings: Any, seed: int, keep: int) -> Ordered:
    """Keep the features that add most to others, the mean over all orders of them (SAGE)."""
    answers = estimator.answers(estimator.prepare(data, settings, seed), data, settings, seed)
    targets = _all_targets(data)
    generator = torch.Generator().manual_seed(seed)
    found = shapley_values(lambda order: gains(answers, targets, order), data.channels, generator)
    ranked = torch.argsort(found.values, descending=True, stable=True).tolist()
    nats, errors = found.values.numpy(), found.errors.numpy()
    return Ordered(sorted(ranked[:keep]), ranked[keep:], nats, errors)


def take(covariance: Tensor, features: int, order: str, settings: Gaussian, keep: int) -> Ordered:
    """Take the most worthwhile feature, again and again: `mrmr`, `mifs` or `cmim`.

    Parameters
    ----------
    covariance : (d + m, d + m) of features and targets.

    Source: Peng 2005 eq. (6); Battiti 1994 section IV; Fleuret 2004 (JMLR 5) section 3, each with
    Gaussian information.
    """
    shared = {"ridge": settings.ridge, "resolution": settings.resolution}
    pairwise = pairwise_information(covariance, features, 1, **shared)
    relevance = pairwise.relevance.numpy()
    if order == "cmim":
        taken = _by_least_new(relevance, conditional_information(covariance, features, **shared))
    else:
        redundancy = pairwise.redundancy.numpy()
        taken = taking_order(relevance, redundancy, DISCOUNTS[order])
    return Ordered(sorted(taken[:keep]), taken[keep:], relevance)


def conditional_information(
    covariance: Tensor, features: int, *, ridge: float, resolution: float
) -> Values:
    """Gaussian I(x_i; y | x_j) in nats, (d, d); 0 on the diagonal.

    Both sides are seen through noise, as in `pairwise_information`, whose relevance is I(x_i; y).
    """
    noisy = covariance.clone()
    variances = covariance.diagonal()
    noisy.diagonal().add_(resolution * variances + ridge * (float(variances.mean()) or 1.0))
    inner, cross, outer = (
        noisy[:features, :features],
        noisy[:features, features:],
        noisy[features:, features:],
    )
    given = inner - cross @ torch.linalg.solve(outer, cross.T)  # of x, once y is known
    ratio = torch.log(inner.diagonal() / given.diagonal())
    pairs = torch.log(_determinants(inner)) - torch.log(_determinants(given))
    nats: Tensor = (pairs - ratio) / 2
    nats.fill_diagonal_(0.0)
    return nats.numpy()


def _determinants(matrix: Tensor) -> Tensor:
    """Of the 2 x 2 blocks of every two indices; 1 on the diagonal."""
    own = matrix.diagonal()
    found: Tensor = torch.outer(own, own) - matrix.square()
    return found.fill_diagonal_(1.0)


def _by_least_new(relevance: Values, conditional: Values) -> list[int]:
    """Each time the feature whose information given any one of the taken is largest at its least.

    Ties go to the lower index.
    """
    taken: list[int] = []
    new = relevance.copy()
    for _ in relevance:
        worth = new.copy()
        worth[taken] = -np.inf
        feature = int(np.argmax(worth))
        taken.append(feature)
        new = np.minimum(new, conditional[:, feature])
    return taken


DISCOUNTS: dict[str, Callable[[Values, int], Values]] = {
    "mrmr": lambda shared, taken: shared / max(taken, 1),
    "mifs": lambda shared, taken: BETA * shared,
}


def _all_targets(data: PairData) -> Tensor:
    (_, y), *_ = data.chunks()
    return torch.arange(y.shape[1])


def _ordered(verdicts: Sequence[Verdict]) -> Ordered:
    nats = np.zeros(len(verdicts))
    for verdict in verdicts:
        nats[verdict.channel] = verdict.conditional
    gone = [verdict.channel for verdict in verdicts if not verdict.kept]
    return Ordered(sorted(v.channel for v in verdicts if v.kept), gone[::-1], nats)
