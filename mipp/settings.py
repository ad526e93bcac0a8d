"""What can be set of each method, estimator, limit and repair: frozen values that check themselves.

An option belongs to the value whose work it changes, so that one that a method does not have cannot
be written. Every default stands here alone, with its bound; the configuration takes them over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mipp.bounds import (
    Channels,
    Count,
    Margin,
    NotNegative,
    Positive,
    Repeats,
    Share,
    require_allowed,
)
from mipp.direct_settings import (
    NWJ,
    TUBA,
    Diffusion,
    Dime,
    Histogram,
    InfoNCE,
    Interpolated,
    KernelDensity,
    Mine,
    Neighbours,
)

MIPP = "mipp"  # the method that is no criterion
LATENCY_BATCH = 64  # inputs at once when time is measured
NARROW_HEADS = 0.99  # share of what attention computes that narrower heads tell
DROP_CONFIDENCE = 90.0  # percent, with which an accuracy falls by no more than is allowed

Order = Literal["auto", "mi", "best-first"]
Price = Literal["budget", "unit", "params", "macs", "latency"]
Worth = Literal["share", "nats"]
Scope = Literal["global", "layer"]
Sure = Literal["keep", "drop"]
Views = Literal["auto", "none", "shift", "flip-shift"]


@dataclass(frozen=True)
class Gaussian:
    """The closed form: information of least-squares predictors, at a finite resolution.

    Parameters
    ----------
    resolution : noise floor, as a share of each target's variance.
    ridge : added to the variance of what a layer reads, as a share of the mean.
    repeats : disjoint folds of the rows, for a test of significance.

    Example
    -------
    >>> Gaussian(ridge=0.01)
    Gaussian(resolution=0.3, ridge=0.01, repeats=5)
    """

    PREFIX = "Gaussian."
    resolution: Positive = 0.3
    ridge: Positive = 1e-3
    repeats: Repeats = 5

    def __post_init__(self) -> None:
        require_allowed(self)


@dataclass(frozen=True)
class Reconstruction:
    """The paper's perceptrons: how they are built and trained; its values where it gives them.

    Parameters
    ----------
    resolution : noise floor, as a share of a target's variance.
    repeats : estimates of every information; five in the paper.
    rows, held_out : that each repeat trains on, and is judged by; 20 batches of 256 in the paper.
    width, depth : of the hidden layers.
    epochs, patience : at most so many, fewer where the loss stops falling; up to 100 in the paper.
    batch_size, lr : of the training.
    retrain_epochs, retrain_lr : after a channel is masked.
    side_by_side : candidates trained at once; never changes what is decided.

    Example
    -------
    >>> Reconstruction(width=64).epochs
    100
    """

    PREFIX = "Reconstruction."
    resolution: Positive = 0.3
    repeats: Repeats = 5
    rows: Count = 5120
    held_out: Count = 1024
    width: Count = 128
    depth: Count = 1
    epochs: Count = 100
    patience: Count = 5
    batch_size: Count = 256
    lr: Positive = 3e-3
    retrain_epochs: Count = 5
    retrain_lr: Positive = 1e-3
    side_by_side: Count = 1

    def __post_init__(self) -> None:
        require_allowed(self)


ESTIMATOR_NAMES: Mapping[type[Any], str] = {
    Gaussian: "gaussian",
    Reconstruction: "reconstruction",
    Neighbours: "neighbours",
    KernelDensity: "kernel-density",
    Histogram: "histogram",
    Mine: "mine",
    InfoNCE: "infonce",
    NWJ: "nwj",
    TUBA: "tuba",
    Interpolated: "interpolated",
    Diffusion: "diffusion",
    Dime: "dime",
}


@dataclass(frozen=True)
class Mipp:
    """Selection by the information that units hand on to the next layers.

    Parameters
    ----------
    estimator : of information: the closed form, the paper's perceptrons, or the settings of an
        estimator of yours.
    order : of the visits: `best-first`, what adds least given all others, ordered anew as channels
        go; or `mi`, once each, the least informative alone first, as in the paper. `auto` is
        best-first, but for a confidence or for the paper's perceptrons.
    worth : nats count as a `share` of what passes the group, or as they are.
    price : what they are divided by; `budget` is whatever the budget counts.
    position_weight : a map of p positions counts p ** position_weight times one position.
    param_weight : power of a unit's parameters by which it is cheaper, where units are counted.
    margin, sure : of a test of significance: the share of a group's nats that does not count, and
        of what one must be sure, to `keep` a unit or to `drop` it.
    rows : activation rows per layer pair, about.

    Example
    -------
    >>> Mipp(estimator=Gaussian(resolution=0.1), order="mi").price
    'budget'
    """

    PREFIX = ""
    estimator: Any = Gaussian()
    order: Order = "auto"
    worth: Worth = "share"
    price: Price = "budget"
    position_weight: Share = 0.35
    param_weight: Share = 0.2
    margin: Margin = 1e-3
    sure: Sure = "keep"
    rows: Count = 8192

    def __post_init__(self) -> None:
        require_allowed(self)


@dataclass(frozen=True)
class Criterion:
    """Selection by a rival criterion's scores.

    Parameters
    ----------
    method : name of a criterion, its address `package.module:attribute`, or the function itself.
    scope : the lowest scores go first over the whole network (`global`), or the same share of
        every group (`layer`).

    Example
    -------
    >>> Criterion("l1", scope="layer")
    Criterion(method='l1', scope='layer')
    """

    PREFIX = ""
    method: str | Callable[..., Any]
    scope: Scope = "global"

    def __post_init__(self) -> None:
        require_allowed(self)


@dataclass(frozen=True)
class Limits:
    """What stays whatever it adds.

    Parameters
    ----------
    min_channels : floor per channel group.
    round_to : widths are multiples of this, or whole.
    limits : pattern of module names -> greatest share of such a group's units that may go.
    ignore, keep_outputs, keep_inputs : names of modules, or patterns with `*`, whose channels
        stay, on both sides or on one.

    Example
    -------
    >>> Limits(round_to=8, ignore=("stem.*",)).min_channels
    1
    """

    PREFIX = ""
    min_channels: Channels = 1
    round_to: Count = 1
    limits: Mapping[str, float] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    keep_outputs: tuple[str, ...] = ()
    keep_inputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("ignore", "keep_outputs", "keep_inputs"):
            value = getattr(self, name)
            if isinstance(value, Iterable) and not isinstance(value, str):
                object.__setattr__(self, name, tuple(value))  # a sequence that is read once, too
        require_allowed(self)

    @property
    def least(self) -> int:
        """`min_channels`, rounded up to `round_to`."""
        return -(-self.min_channels // self.round_to) * self.round_to


@dataclass(frozen=True)
class Refit:
    """The layers after what was cut are fitted anew by least squares, front to back.

    Parameters
    ----------
    ridge : pull toward the weights as they are, as a share of the inputs' mean variance.
    rows : sampled per layer, about, at most; a layer with few features needs fewer.

    Example
    -------
    >>> Refit(ridge=0.1).rows
    32768
    """

    PREFIX = "Refit."
    ridge: Positive = 1e-2
    rows: Count = 32768

    def __post_init__(self) -> None:
        require_allowed(self)


@dataclass(frozen=True)
class Distill:
    """After a refit the pruned network learns what the dense one computes of the same inputs.

    No labels are needed. It goes by the outputs, and by what some layers read, see `stages`. A
    tenth of the inputs is held out of both, and judges: on it the refit is never the better one.

    Parameters
    ----------
    refit : what comes first; None where the network is refitted already, without that tenth.
    steps : of training, with 64 inputs each, of large images fewer.
    seconds : after which training ends at the latest; the schedule is shortened with it.
    lr : its peak, of Adam and one cycle.
    stages : weight, beside the outputs, of what later layers read of a stream of channels.
    views : images are learned from as they are (`none`), moved by a few pixels too (`shift`), or
        mirrored too (`flip-shift`). `auto` takes what changes the dense network's outputs little.

    Example
    -------
    >>> Distill(steps=100).refit
    Refit(ridge=0.01, rows=32768)
    """

    PREFIX = "Distill."
    refit: Refit | None = Refit()
    steps: Count = 300
    seconds: Positive | None = None
    lr: Positive = 2e-3
    stages: NotNegative = 1.5
    views: Views = "auto"

    def __post_init__(self) -> None:
        require_allowed(self)


@dataclass(frozen=True)
class Recalibrate:
    """Only the statistics of batch-norms are measured anew.

    Example
    -------
    >>> Recalibrate() == Recalibrate()
    True
    """


@dataclass(frozen=True)
class NoRepair:
    """The network is left as cutting leaves it.

    Example
    -------
    >>> NoRepair()
    NoRepair()
    """


Method = Mipp | Criterion
Repair = Refit | Distill | Recalibrate | NoRepair
