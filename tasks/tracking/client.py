"""The door to mlflow, whose import takes seconds: it is opened when something is tracked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param


def client_of(uri: str | None) -> MlflowClient:
    """A client of the store at an address, whose calls to a database are never broken off."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    served = uri is not None and uri.startswith("http")
    return client if served else cast("MlflowClient", _Whole(client))


class _Whole:
    """A client whose calls end before a time limit or Ctrl-C stops the caller.

    Both raise in the main thread, wherever it is. Between the statements of a write they would
    leave SQLite locked for every other run, as long as the traceback holds the open cursor.
    """

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        def whole(*args: Any, **kwargs: Any) -> Any:
            with ThreadPoolExecutor(1, "mlflow") as thread:
                thread.submit(int).result()  # a thread stopped in its start is not waited for
                return thread.submit(call, *args, **kwargs).result()

        return whole


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
