"""Counted cells with their bias taken off (Miller 1955; Paninski 2003, Neural Computation 15)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mipp.direct_settings import Histogram
from mipp.errors import EstimationError, option
from mipp.information.direct.eliminate import direct_estimator


def measure_by_cells(x: Tensor, y: Tensor, settings: Histogram, seed: int) -> float:
    """H(x) + H(y) - H(x, y) of columns cut into bins of equally many rows.

    Blind: cells grow as bins to the power of columns. Beyond two or three, nearly every row has a
    cell of its own and nothing can be told, which is refused.

    Source: Paninski 2003 eq. (4), the Miller-Madow correction of every entropy.

    Raises
    ------
    EstimationError : more than half as many cells are occupied as there are rows.
    """
    codes = [binned(side.cpu().numpy(), settings.bins) for side in (x, y)]
    entropies = [_entropy(side) for side in (*codes, np.hstack(codes))]
    cells = entropies[2][1]
    if cells > len(x) / 2:
        raise EstimationError(
            f"{len(x)} rows lie in {cells} cells of {x.shape[1]} + {y.shape[1]} columns cut into "
            f"{settings.bins} bins each: too many to count.\nExpected at most {len(x) // 2}; take "
            f"another estimator than histogram, fewer columns, fewer {option('Histogram.bins')} or "
            f"more {option('Mipp.rows')}."
        )
    return entropies[0][0] + entropies[1][0] - entropies[2][0]


def binned(values: npt.NDArray[np.float64], bins: int) -> npt.NDArray[np.int64]:
    """Each column's bin, of equally many rows; equal values are in one.

    0 in 5 rows of 100, 1 in 95        a bin for each value: there are enough
    1, 2, ... 40, and 60 times 99      40 rows in 4 of 8 bins, and 99 in the sixth, where the middle
                                       of its rows is; upside down, the same rows are together
    """
    return np.stack([_bins_of(column, bins) for column in values.T], 1)


def _bins_of(column: npt.NDArray[np.float64], bins: int) -> npt.NDArray[np.int64]:
    values, places, counts = np.unique(column, return_inverse=True, return_counts=True)
    if len(values) <= bins:
        return places
    middles = 2 * np.cumsum(counts) - counts - 1  # first and last row of a value, added up
    found = (middles * bins - 1) // (2 * len(column) - 2)  # rounded up, less 1
    of_values: npt.NDArray[np.int64] = np.maximum(found, 0)
    return of_values[places]


def _entropy(codes: npt.NDArray[np.int64]) -> tuple[float, int]:
    """Nats, and how many cells are occupied."""
    _, counts = np.unique(codes, axis=0, return_counts=True)
    shares = counts / len(codes)
    return float(-(shares * np.log(shares)).sum() + (len(counts) - 1) / (2 * len(codes))), len(
        counts
    )


ESTIMATOR = direct_estimator(Histogram, measure_by_cells)
