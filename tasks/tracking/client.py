"""The door to mlflow, whose import takes seconds: it is opened when something is tracked."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param


def client_of(uri: str | None) -> MlflowClient:
    """A client of the store at an address."""
    from mlflow import MlflowClient

    return MlflowClient(uri)


def metric(name: str, value: float, time: int, step: int) -> Metric:
    """A number of a run, at a time in ms."""
    from mlflow.entities import Metric

    return Metric(name, value, time, step)


def param(name: str, value: str) -> Param:
    """A parameter of a run."""
    from mlflow.entities import Param

    return Param(name, value)


def refusal() -> type[Exception]:
    """What mlflow raises when its store refuses or is away."""
    from mlflow.exceptions import MlflowException

    return MlflowException
