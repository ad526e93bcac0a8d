"""A selector of features with scikit-learn's interface; the one module that needs it at import."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator
from sklearn.feature_selection import SelectorMixin
from sklearn.preprocessing import LabelBinarizer, StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from mipp.errors import MippError, as_written
from mipp.features.orders import (
    Ordered,
    eliminate,
    eliminate_surely,
    share_out,
    table,
    take,
)
from mipp.features.vmi import take_by_bound
from mipp.information.estimators import Estimator, estimator_named, estimator_of
from mipp.selection.rules import Confidence
from mipp.settings import Gaussian

ORDERS = ("terc", "mrmr", "mifs", "cmim", "vmi", "sage")
ESTIMATED = {"terc": eliminate, "sage": share_out}
SURE = "sure"
TESTING = Gaussian(ridge=1e-6)
WRITTEN = {"Mipp.rows": "rows of X", "Mipp.rows or images": "the number of rows of X"}
RANKING = Gaussian(ridge=0.1)  # the best of .001, .01 and .1 on scikit-learn's wine data


class TERCSelector(SelectorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Keeps the features that carry information about the targets which the others do not.

    Transfer entropy redundancy criterion: all features are there at first; one goes if the others
    tell the targets all the same, and later ones are judged without it. Copies leave one of them,
    and features that tell something together only stay together, as far as the estimator sees it.

    Parameters
    ----------
    n_features_to_select : how many stay: a number, a share of them (a float up to 1), half of
        them (None), or `sure`: those which we are more than `confidence` percent sure add
        information, visited once, from the one that tells least alone. That takes 50 rows at
        least, and with some ten per feature little is sure, so that little stays.
    order : `terc`; or in which the first are taken, by information alone and in pairs: `mrmr`
        (Peng 2005), `mifs` (Battiti 1994), `cmim` (Fleuret 2004), `vmi` (Gao 2016, by counts in
        five cells of each column); or `sage` (Covert 2020): what a feature adds to others, the
        mean over random orders of them.
    estimator : of information, for `terc` and `sage`: `gaussian`, the closed form, which sees what
        is linear, with a ridge of a tenth, as tables have few rows, and of a millionth for `sure`,
        where a copy tells as much as the ridge is; `reconstruction`, perceptrons, which see more
        and take minutes; the `package.module:attribute` of one of yours, or settings such as
        `mipp.Gaussian(ridge=0.01)`.
    confidence, margin : percent, for `sure`, and the nats that do not count.
    random_state : of the perceptrons, of the column that is known to tell nothing, and of orders.

    Attributes
    ----------
    support_ : (n_features,) which stay.
    ranking_ : (n_features,) 1 for those that stay, then by how late they left.
    information_ : (n_features,) nats that each adds to those that were there when it was decided;
        in an order of taking, what it tells alone; by `sage` its share of what all tell.
    information_error_ : (n_features,) standard errors of these shares; None in other orders.
    n_features_in_, feature_names_in_ : as everywhere in scikit-learn.

    Raises
    ------
    ValueError : a parameter is none of the above, or there are too few rows for what is asked.

    Notes
    -----
    Features are scaled to unit variance. Classes are targets of one column each, numbers are
    targets as they are.

    Source: Westphal, Hailes and Musolesi, arXiv:2401.11512.

    Example
    -------
    >>> import numpy as np
    >>> from mipp.features import TERCSelector
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(200, 3))
    >>> x = np.column_stack([x, x[:, 0]])  # the last is a copy of the first
    >>> y = x[:, 0] + x[:, 1]
    >>> TERCSelector("sure").fit(x, y).get_support(indices=True)
    array([1, 3])
    """

    def __init__(
        self,
        n_features_to_select: int | float | str | None = None,
        *,
        order: str = "terc",
        estimator: Any = "gaussian",
        confidence: float = 95.0,
        margin: float = 1e-3,
        random_state: Any = 0,
    ) -> None:
        self.n_features_to_select = n_features_to_select
        self.order = order
        self.estimator = estimator
        self.confidence = confidence
        self.margin = margin
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> TERCSelector:
        """Decide which columns of X (n, features) stay, for targets y (n,) or (n, targets)."""
        x, y = validate_data(self, X, y, multi_output=True, ensure_min_samples=2, y_numeric=False)
        self._require_known()
        keep = self._count(x.shape[1])
        rows = torch.from_numpy(StandardScaler().fit_transform(x.astype(np.float64)))
        try:
            with as_written(WRITTEN):
                found = self._order(rows, torch.from_numpy(_targets(y)), keep)
        except MippError as error:
            raise ValueError(str(error)) from error
        self.support_ = np.zeros(x.shape[1], bool)
        self.support_[found.kept] = True
        self.ranking_ = np.ones(x.shape[1], np.int64)
        self.ranking_[found.gone] = np.arange(2, 2 + len(found.gone))
        self.information_ = found.nats
        self.information_error_ = found.errors
        return self

    def _order(self, x: torch.Tensor, y: torch.Tensor, keep: int | None) -> Ordered:
        estimator, settings = self._estimator(keep)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        data = table(x, y)
        if keep is None:
            rule = Confidence(self.confidence, self.margin)
            return eliminate_surely(data, estimator, settings, seed, rule)
        if self.order in ESTIMATED:
            return ESTIMATED[self.order](data, estimator, settings, seed, keep)
        if self.order == "vmi":
            return take_by_bound(x.numpy(), y.numpy(), keep)
        both = torch.cat([x, y - y.mean(0)], 1)
        return take(both.T @ both / len(x), x.shape[1], self.order, RANKING, keep)

    def _estimator(self, keep: int | None) -> tuple[Estimator, Any]:
        if isinstance(self.estimator, str):
            estimator = estimator_named(self.estimator)
            if estimator.settings is not Gaussian:
                return estimator, estimator.settings()
            return estimator, TESTING if keep is None else RANKING
        return estimator_of(self.estimator)[1], self.estimator

    def _require_known(self) -> None:
        if self.order not in ORDERS:
            raise ValueError(f"order must be one of {', '.join(ORDERS)}, got {self.order!r}")
        if self.order == "terc":
            return
        if self.order not in ESTIMATED and self.estimator != "gaussian":
            raise ValueError(
                f"estimator={self.estimator!r} has no effect: order={self.order!r} has a "
                "measure of its own. Expected 'gaussian'; set order='terc', or leave estimator out."
            )
        if self.n_features_to_select == SURE:
            raise ValueError(
                f"order={self.order!r} tests nothing: n_features_to_select='{SURE}' needs "
                "order='terc'. Expected a number, a share or None."
            )

    def _count(self, features: int) -> int | None:
        """How many stay; None where a test tells."""
        asked = self.n_features_to_select
        if asked is None:
            return max(1, features // 2)
        if isinstance(asked, str) and asked == SURE and 0 < self.confidence < 100:
            return None
        if isinstance(asked, Integral) and not isinstance(asked, bool) and 1 <= asked <= features:
            return int(asked)
        share = isinstance(asked, Real) and not isinstance(asked, (bool, Integral))
        if share and 0 < float(asked) <= 1:
            return max(1, math.floor(float(asked) * features))
        raise ValueError(
            f"n_features_to_select={asked!r} cannot be had with {features} features and "
            f"confidence={self.confidence!r}. Expected 1 to {features}, a share above 0 and up to "
            f"1.0, None for half, or '{SURE}' with a confidence between 0 and 100."
        )

    def _get_support_mask(self) -> npt.NDArray[np.bool_]:
        check_is_fitted(self, "support_")
        return self.support_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        return tags


def _targets(y: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Targets (n, m): a column per class, or the numbers as they are."""
    if type_of_target(y).startswith("continuous"):
        return y.reshape(len(y), -1).astype(np.float64)
    check_classification_targets(y)
    columns = y.reshape(len(y), -1).T
    return np.hstack([_classes(column) for column in columns]).astype(np.float64)


def _classes(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    found = LabelBinarizer().fit_transform(labels)
    return np.hstack([1 - found, found]) if found.shape[1] == 1 else found
