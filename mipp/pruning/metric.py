"""What a network achieves on labelled inputs: its accuracy, or what a function of yours says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from mipp.device import device_of
from mipp.errors import ConfigError, DataError, as_written, option
from mipp.evaluation import evaluating
from mipp.inputs import call, each
from mipp.pruning.first_batch import checked

Metric = Literal["accuracy"] | Callable[[nn.Module, Any], float]  # of (model, loader)


class Answers(NamedTuple):
    """Of inputs in the order in which they were read, shape (n,): labels, and which are met."""

    labels: Tensor
    right: Tensor


@dataclass(frozen=True)
class Scored:
    """A metric's value; where it is an accuracy, in percent, the answers that it counts."""

    value: float
    answers: Answers | None = None


Score = Callable[[nn.Module], Scored]

ACCURACY: Literal["accuracy"] = "accuracy"  # in percent


def score_of(metric: Metric, validation: Iterable[Any]) -> Score:
    """What says how good a network is, the higher the better; an accuracy in percent.

    Parameters
    ----------
    validation : read once for every network.

    Raises
    ------
    ConfigError : the metric is none, or the validation data can be read but once.
    """
    if iter(validation) is validation:
        raise ConfigError(
            "validation can be read only once, and is read for every network.\nExpected a loader "
            f"or a list of batches, got a {type(validation).__name__}; pass list(validation)."
        )
    if metric == ACCURACY:
        return partial(accuracy_on, validation=validation)
    if not callable(metric):
        raise ConfigError(
            f"metric: expected 'accuracy', or a function of (model, loader), got {metric!r}."
        )
    return lambda model: Scored(float(metric(model, validation)))


def accuracy_on(model: nn.Module, validation: Iterable[Any]) -> Scored:
    """Percent of the inputs whose largest output is at their label, and which they are.

    A loader that shuffles by torch's own generator gives the same order every time.

    >>> accuracy_on(nn.Identity(), [(torch.eye(4), torch.tensor([0, 1, 2, 0]))]).value
    75.0

    Raises
    ------
    DataError : there are no labels of classes, or the outputs are no scores of classes.
    """
    right: list[Tensor] = []
    classes: list[Tensor] = []
    device, theirs = device_of(model), as_written({"calibration": option("validation")})
    with theirs, evaluating(model), torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        for inputs, labels in checked(model, validation):
            outputs = call(model, each(inputs, lambda tensor: tensor.to(device)))
            scores = isinstance(outputs, Tensor) and outputs.ndim == 2
            if not scores or not isinstance(labels, Tensor) or labels.shape != outputs.shape[:1]:
                raise DataError(
                    "accuracy cannot be told of this network and these batches.\nExpected scores "
                    "of classes (n, classes) and labels (n,); pass metric=, a function of (model, "
                    "loader) that gives a number, the higher the better."
                )
            right.append((outputs.argmax(1) == labels.to(device)).cpu())
            classes.append(labels.cpu())
    if not sum(map(len, right)):
        raise DataError("validation holds no inputs.\nExpected batches of (inputs, labels).")
    hits = torch.cat(right)
    return Scored(100 * int(hits.sum()) / len(hits), Answers(torch.cat(classes), hits))
