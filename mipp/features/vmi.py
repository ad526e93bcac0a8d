"""Variational information maximisation (Gao, Ver Steeg and Galstyan 2016, arXiv:1606.02827)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mipp.errors import EstimationError
from mipp.features.orders import Ordered
from mipp.information.direct.histogram import binned

BINS = 5  # of equally many rows, of a column with more values than that
STALLED = 0.01  # nats, of the authors' code: one that adds less begins a new bound
LARGE = 700.0  # whose exponential is a number yet

Codes = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


def take_by_bound(x: Values, y: Values, keep: int) -> Ordered:
    """Take the feature with which the lower bound on the joint information is largest, again.

    Parameters
    ----------
    x, y : (n, d) features and (n, m) targets, in cells: of each feature, and of all targets.

    Raises
    ------
    EstimationError : the targets together have more than half as many cells as there are rows.
    """
    labels = np.unique(_in_cells(y), axis=0, return_inverse=True)[1].ravel()
    classes = int(labels.max()) + 1
    if classes > max(2, len(y) / 2):
        raise EstimationError(
            f"{len(y)} rows lie in {classes} cells of {y.shape[1]} targets cut into {BINS} bins "
            f"each: too many to count.\nExpected at most {len(y) // 2}; take another order than "
            "vmi, or fewer targets."
        )
    taken, alone, _ = order_by_bound(_in_cells(x), labels)
    return Ordered(sorted(taken[:keep]), taken[keep:], alone)


def order_by_bound(codes: Codes, labels: Codes) -> tuple[list[int], Values, list[float]]:
    """Features in the order of taking, what each tells alone, and the bound as each was taken.

    With q(x | y) for the features' distribution given the label, E log q(y | x) / p(y) in nats is
    at most the information that they have together, whatever q is; q(y | x) is in proportion to
    p(y) q(x | y). Here the t-th feature has the geometric mean of p(x_t | x_i, y) over the t - 1
    before it (pairwise naive Bayes), from counts: three features and more are never counted
    together. Where the bound stops rising, the next features begin one of their own.

    Blind: what three features tell together and no two do; counts of few rows tell too much, up
    to the entropy of the labels, from where every order is one of single features.

    Parameters
    ----------
    codes : (n, d) integers from 0; `labels` (n,).

    Source: arXiv:1606.02827v1, pairwise naive Bayes; beginning anew is that of the authors' code.
    Ties go to the lower index.
    """
    n, features = codes.shape
    cells, classes = int(codes.max()) + 1, int(labels.max()) + 1
    own = labels[None, :, None] == np.arange(classes)[:, None, None]  # (classes, n, 1)
    hot = (codes[:, :, None] == np.arange(cells)).reshape(n, -1).astype(np.float64)
    prior = np.log(own.mean((1, 2)))[:, None, None]
    first = _log_shares(hot, np.ones((n, 1)), own, codes)
    alone = _bounds(prior + first, prior, labels)
    taken: list[int] = []
    reached: list[float] = []
    joint, steps, count = prior, first, 0
    while len(taken) < features:
        bounds = alone if count == 0 else _bounds(joint + steps / count, prior, labels)
        bounds = np.where(np.isin(np.arange(features), taken), -np.inf, bounds)
        best = int(np.argmax(bounds))
        if count and bounds[best] < reached[-1] + STALLED:
            joint, steps, count = prior, first, 0
            continue
        taken.append(best)
        reached.append(float(bounds[best]))
        joint = joint + steps[:, :, best, None] / max(count, 1)
        new = hot.reshape(n, features, cells)[:, best]
        steps = _log_shares(hot, new, own, codes) + (steps if count else 0.0)
        count += 1
    return taken, alone, reached


def _log_shares(hot: Values, given: Values, own: npt.NDArray[np.bool_], codes: Codes) -> Values:
    """log p(x | given, y) of every row's cells under every label, (classes, n, d).

    Parameters
    ----------
    hot, given : cells one-hot, (n, d * cells) and (n, cells of what is known).
    """
    n, features = codes.shape
    at = np.arange(features) * (hot.shape[1] // features) + codes  # (n, d) columns of `hot`
    flat = at * given.shape[1] + given.argmax(1)[:, None]  # places in `shares`
    found = np.empty((len(own), n, features))
    for label, rows in enumerate(own):
        part = given * rows
        counts = hot.T @ part  # (d * cells, cells of what is known)
        sizes = part.sum(0)
        shares = counts / np.where(sizes > 0, sizes, 1.0)
        shares[:, sizes == 0] = 1.0  # that cell has a share of 0 in what was taken already
        with np.errstate(divide="ignore"):
            np.take(np.log(shares), flat, out=found[label])
    return found


def _bounds(log_joint: Values, prior: Values, labels: Codes) -> Values:
    """Mean over rows of log q(y | x) / p(y) for every feature, (d,)."""
    rows = np.arange(len(labels))
    own = log_joint[labels, rows]
    others = np.exp(np.minimum(log_joint - own, LARGE)).sum(0)  # its own label's is 1
    nats: Values = -(np.log(others) + prior[labels, 0]).mean(0)
    return nats


def _in_cells(values: Values) -> Codes:
    """Columns as integers from 0: the values themselves where they are few, else bins."""
    columns = []
    for column in values.T:
        different, codes = np.unique(column, return_inverse=True)
        few = len(different) <= BINS
        columns.append(codes.ravel() if few else binned(column[:, None], BINS)[:, 0])
    return np.stack(columns, 1)
