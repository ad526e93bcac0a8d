"""`TERCSelector` on tables: logistic regression on half of the features, beside other selectors.

Breast cancer and digits of scikit-learn; wine is the one on which the ridge was chosen. With
--write a run that is cut short goes on where it stopped.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from sklearn import datasets
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import RFE, SelectFromModel, SelectKBest, mutual_info_classif
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.shared.command import parse
from benchmarks.shared.kept import Point
from benchmarks.shared.point_table import PointTable
from benchmarks.shared.tables import spread
from mipp.features import TERCSelector

DATA = {
    "breast cancer": datasets.load_breast_cancer,
    "digits": datasets.load_digits,
    "wine": datasets.load_wine,
}
EVERY = "all features"
KEY = ("data", "selector", "seed")
COLUMNS = ("features", "kept", "accuracy", "seconds")
NOTES = """\
Accuracy in percent of logistic regression on standardised features, the mean of 5 folds; mean and
deviation over the seeds of the folds. All but `sure` keep half of the features; each selector is
fitted within the fold. *seconds*: fitting the selector and the regression, per fold; of `vmi` and
`sage` by the wall of a busy machine, about six times their own."""


def selectors(features: int) -> dict[str, BaseEstimator | None]:
    """By name, each for half of the features; None keeps all."""
    half = features // 2
    sparse = LogisticRegression(l1_ratio=1, solver="saga", C=0.1, max_iter=300)
    scored = partial(mutual_info_classif, random_state=0)
    return {
        EVERY: None,
        "terc": TERCSelector(),
        "terc, sure": TERCSelector("sure"),
        "mrmr": TERCSelector(order="mrmr"),
        "mifs": TERCSelector(order="mifs"),
        "cmim": TERCSelector(order="cmim"),
        "vmi": TERCSelector(order="vmi"),
        "sage": TERCSelector(order="sage"),
        "SelectKBest(mutual_info)": SelectKBest(scored, k=half),
        "RFE": RFE(LogisticRegression(max_iter=1000), n_features_to_select=half),
        "L1": SelectFromModel(sparse, max_features=half, threshold=-np.inf),
    }


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = KEPT.parser(__doc__)
    options.add_argument("--data", nargs="+", choices=DATA, default=[*DATA])
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the folds")
    return parse(options, given)


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    every = [
        (data, selector, seed)
        for data in options.data
        for selector in selectors(2)
        for seed in options.seeds
    ]
    KEPT.run(options, every, lambda point: measure(**point))


def measure(data: str, selector: str, seed: int) -> Point:
    """One selector in 5 folds of one table."""
    x, y = DATA[data](return_X_y=True)
    chosen = selectors(x.shape[1])[selector]
    steps: list[Any] = [StandardScaler(), LogisticRegression(max_iter=1000)]
    if chosen is not None:
        steps.insert(1, chosen)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of the sparse regression, in order
        found = cross_validate(make_pipeline(*steps), x, y, cv=folds, return_estimator=True)
    kept = [_kept(pipeline, x.shape[1]) for pipeline in found["estimator"]]
    return {
        "features": x.shape[1],
        "kept": float(np.mean(kept)),
        "accuracy": 100 * float(found["test_score"].mean()),
        "seconds": (time.perf_counter() - start) / 5,
    }


def _kept(pipeline: Any, features: int) -> int:
    return features if len(pipeline) == 2 else int(pipeline[1].get_support().sum())


def table(points: Sequence[Point]) -> list[dict[str, Any]]:
    """A row for each selector, the columns of each table side by side."""
    rows = []
    for selector in dict.fromkeys(p["selector"] for p in points):
        row: dict[str, Any] = {"selector": selector}
        for data in dict.fromkeys(p["data"] for p in points):
            own = [p for p in points if (p["selector"], p["data"]) == (selector, data)]
            if own:
                kept = np.mean([p["kept"] for p in own])
                row |= {
                    data: spread(p["accuracy"] for p in own),
                    f"{data}: kept": f"{kept:g} of {own[0]['features']}",
                    f"{data}: seconds": f"{np.median([p['seconds'] for p in own]):.2f}",
                }
        rows.append(row)
    return rows


KEPT = PointTable("ablations.tables", "Features of tables", NOTES, KEY, COLUMNS, table)
write_page = KEPT.write_page

if __name__ == "__main__":
    main()
