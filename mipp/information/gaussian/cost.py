"""What the closed form costs by a pair's size: operations, the form that has fewer, bytes.

Of d features, m targets and n rows. The page on sizing compares it with measured times; the
rates below are those of its page, relative to that of a factorisation in float64.
"""

from __future__ import annotations

WALKS = 4  # of the threshold search, over the whole network; VGG-16 takes 4
DROPPED = 0.5  # share of the features that a walk drops
HELD = 0.75  # share that is held, on average over a walk
STRIPS = 9 / 16  # of a full product that the upper half costs, in strips
SUMS, WALK = 0.4, 0.8  # time of an operation of the sums, in float32, and of a walk: most recall
BYTES = 8  # of a number in float64


def sums_operations(rows: int, features: int, targets: int) -> float:
    """Of the second moments."""
    return 2.0 * rows * features * (STRIPS * features + targets)


def prepare_operations(features: int, targets: int) -> float:
    """Of the covariance's factor, its inverse and the predictor."""
    return features**3 + 2.0 * features**2 * targets


def walk_operations(features: int, targets: int) -> float:
    """Of one walk, best first, that drops a share of the features."""
    dropped = DROPPED * features
    return features * dropped * (dropped + 2.0 * targets)


def whole_operations(rows: int, features: int, targets: int) -> float:
    """Of a search with the whole precision matrix, in operations of `prepare_operations`."""
    walks = WALKS * walk_operations(features, targets)
    sums = sums_operations(rows, features, targets)
    return SUMS * sums + prepare_operations(features, targets) + WALK * walks


def few_rows_operations(rows: int, features: int, targets: int) -> float:
    """Of one with the precision matrix of few rows, which takes all of them to every step."""
    kernel = rows**3 / 3 + 3.0 * rows**2 * features + 2.0 * rows * features * targets
    step = walk_operations(features, targets)
    step += 2.0 * rows * DROPPED * features * HELD * features
    return kernel + WALK * WALKS * step


def prefers_dual(rows: int, features: int) -> bool:
    """Whether the form for few rows is the cheaper one; the targets are those of either.

    >>> prefers_dual(784, 4608), prefers_dual(784, 2048)
    (True, False)
    """
    return few_rows_operations(rows, features, 0) < whole_operations(rows, features, 0)


def state_bytes(rows: int, channels: int, features: int, targets: int) -> int:
    """Of what is prepared of a pair; its sums or rows before take no more."""
    matrix = min(rows, features) if prefers_dual(rows, features) else features
    return int(BYTES * (features * (matrix + targets) + channels * targets))


def drops_bytes(rows: int, features: int) -> int:
    """Of the sides of what walks drop, which the next ones recall."""
    start = rows if prefers_dual(rows, features) else 0
    return int(BYTES * features * (start + DROPPED * features))


def walk_bytes(features: int, targets: int) -> int:
    """Of what a walk makes of a pair beside them while it is at it: the targets' weights."""
    return BYTES * features * 2 * targets
