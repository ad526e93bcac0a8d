"""A retry is made only where the cause may pass by itself."""

import errno

import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from prefect.states import Failed

from mipp.errors import BudgetError, LostRankError, MippError, TrainingError
from tasks import steps
from tasks.retrying import may_pass

PASSING = (
    ConnectionResetError("reset by peer"),
    TimeoutError("no answer"),
    OSError(errno.ESTALE, "stale file handle"),
    OSError(errno.EIO, "input/output error"),
    torch.OutOfMemoryError("CUDA out of memory"),
    LostRankError("rank 1 was killed"),
    MlflowException("connection refused", INTERNAL_ERROR),
)
LASTING = (
    BudgetError("out of range"),
    TrainingError("diverged"),
    FileNotFoundError(errno.ENOENT, "no such file"),
    PermissionError(errno.EACCES, "not allowed"),
    OSError(errno.ENOSPC, "no space left on device"),
    MlflowException("no such metric", INVALID_PARAMETER_VALUE),
    KeyError("fc1"),
    AssertionError(),
)


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_failure_that_may_pass_is_retried(error):
    assert may_pass(error)
    assert steps.worth_retrying(steps.run, None, Failed(data=error))


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_failure_that_would_come_again_is_not_retried(error):
    assert not may_pass(error)
    assert not steps.worth_retrying(steps.run, None, Failed(data=error))


def test_refused_input_that_came_of_a_lost_connection_is_not_retried():
    error = MippError("store cannot be read")
    error.__cause__ = ConnectionResetError()
    assert not may_pass(error)


@pytest.mark.parametrize(
    "step", [steps.check, steps.run, steps.list_pairs, steps.estimate, steps.link, steps.publish]
)
def test_every_step_retries_with_growing_delays_where_it_helps(step):
    assert step.retries == 3
    assert step.retry_condition_fn is steps.worth_retrying
    assert step.retry_delay_seconds == sorted(step.retry_delay_seconds)
    assert len(set(step.retry_delay_seconds)) == 3
