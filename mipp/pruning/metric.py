"""What a network achieves on labelled inputs: its accuracy, or what a function of yours says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mipp.device import device_of
from mipp.errors import ConfigError, DataError
from mipp.evaluation import evaluating
from mipp.inputs import call, each
from mipp.pruning.first_batch import checked

Metric = Literal["accuracy"] | Callable[[nn.Module, Any], float]  # of (model, loader)
Score = Callable[[nn.Module], float]

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
    return lambda model: float(metric(model, validation))


def accuracy_on(model: nn.Module, validation: Iterable[Any]) -> float:
    """Percent of the inputs whose largest output is at their label.

    >>> accuracy_on(nn.Identity(), [(torch.eye(4), torch.tensor([0, 1, 2, 0]))])
    75.0

    Raises
    ------
    DataError : there are no labels of classes, or the outputs are no scores of classes.
    """
    hits = seen = 0
    device = device_of(model)
    with evaluating(model), torch.no_grad():
        for inputs, labels in checked(model, validation):
            outputs = call(model, each(inputs, lambda tensor: tensor.to(device)))
            scores = isinstance(outputs, Tensor) and outputs.ndim == 2
            if not scores or not isinstance(labels, Tensor) or labels.shape != outputs.shape[:1]:
                raise DataError(
                    "accuracy cannot be told of this network and these batches.\nExpected scores "
                    "of classes (n, classes) and labels (n,); pass metric=, a function of (model, "
                    "loader) that gives a number, the higher the better."
                )
            hits += int((outputs.argmax(1) == labels.to(device)).sum())
            seen += len(labels)
    if not seen:
        raise DataError("validation holds no inputs.\nExpected batches of (inputs, labels).")
    return 100 * hits / seen
