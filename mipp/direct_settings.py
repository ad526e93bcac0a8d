"""What can be set of the estimators in `mipp/information/direct`: frozen values, one a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mipp.bounds import Count, Positive, Repeats, require_allowed


@dataclass(frozen=True)
class Direct:
    """What estimators share that measure anew without each channel.

    Parameters
    ----------
    rows : measured on, of those there are.
    repeats : disjoint parts of them, for a test of significance.
    """

    PREFIX = "Direct."
    rows: Count = 1000
    repeats: Repeats = 5

    def __post_init__(self) -> None:
        require_allowed(self)


@dataclass(frozen=True)
class Neighbours(Direct):
    """Distances to the nearest rows: the `neighbours`-th of each decides.

    Example
    -------
    >>> Neighbours(rows=500).neighbours
    3
    """

    PREFIX = "Neighbours."
    neighbours: Count = 3


@dataclass(frozen=True)
class KernelDensity(Direct):
    """Densities of Gaussian kernels, `width` times as wide as Silverman's rule says.

    Example
    -------
    >>> KernelDensity(rows=500).width
    1.0
    """

    PREFIX = "KernelDensity."
    width: Positive = 1.0


@dataclass(frozen=True)
class Histogram(Direct):
    """Counts in `bins` of equally many rows per column.

    Example
    -------
    >>> Histogram(bins=16).rows
    1000
    """

    PREFIX = "Histogram."
    bins: Count = 8


@dataclass(frozen=True)
class Variational(Direct):
    """A bound by a critic: one hidden layer for both sides, one for both together.

    Parameters
    ----------
    width : of the hidden layers.
    steps, batch_size, lr : of its training by Adam.
    every : steps after which it is judged; the best one counts.
    """

    PREFIX = "Variational."
    BOUND: ClassVar[str] = ""
    width: Count = 64
    steps: Count = 300
    batch_size: Count = 128
    lr: Positive = 2e-3
    every: Count = 25


@dataclass(frozen=True)
class Mine(Variational):
    """The bound of Donsker and Varadhan, as in MINE.

    Example
    -------
    >>> Mine(steps=100).BOUND
    'mine'
    """

    PREFIX = "Mine."
    BOUND: ClassVar[str] = "mine"


@dataclass(frozen=True)
class InfoNCE(Variational):
    """The bound of contrastive predictive coding.

    Example
    -------
    >>> InfoNCE(width=32).width
    32
    """

    PREFIX = "InfoNCE."
    BOUND: ClassVar[str] = "infonce"


@dataclass(frozen=True)
class NWJ(Variational):
    """The bound of Nguyen, Wainwright and Jordan.

    Example
    -------
    >>> NWJ(repeats=3).repeats
    3
    """

    PREFIX = "NWJ."
    BOUND: ClassVar[str] = "nwj"


@dataclass(frozen=True)
class TUBA(Variational):
    """That bound with a baseline that is trained.

    Example
    -------
    >>> TUBA(lr=1e-3).every
    25
    """

    PREFIX = "TUBA."
    BOUND: ClassVar[str] = "tuba"


@dataclass(frozen=True)
class Interpolated(Variational):
    """Between InfoNCE and TUBA.

    Example
    -------
    >>> Interpolated(batch_size=256).steps
    300
    """

    PREFIX = "Interpolated."
    BOUND: ClassVar[str] = "interpolated"


@dataclass(frozen=True)
class Diffusion(Direct):
    """Scores of a diffusion of the targets, with and without the features.

    Parameters
    ----------
    width : of the two hidden layers.
    steps, batch_size, lr : of the training by Adam.

    Example
    -------
    >>> Diffusion(steps=200).width
    128
    """

    PREFIX = "Diffusion."
    width: Count = 128
    steps: Count = 1000
    batch_size: Count = 256
    lr: Positive = 2e-3


@dataclass(frozen=True)
class Dime(Direct):
    """One predictor for all subsets of the columns, which are hidden at random as it is trained.

    Parameters
    ----------
    width : of the two hidden layers.
    steps, batch_size, lr : of the training by Adam.
    every : steps after which held-out rows judge it; the best one counts.

    Example
    -------
    >>> Dime(steps=200).every
    50
    """

    PREFIX = "Dime."
    width: Count = 128
    steps: Count = 500
    batch_size: Count = 256
    lr: Positive = 2e-3
    every: Count = 50
