"""What stops a run in the midst of a write to MLflow leaves its database free for the others."""

import shutil
import signal

import pytest
from mlflow import MlflowClient
from sqlalchemy import event
from sqlalchemy.engine import Engine

from mipp.training import EpochRecord
from tasks.tracking.client import client_of
from tasks.tracking.tracker import Tracker

pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.xdist_group("tracking"),
]


class TimedOut(BaseException):
    """What a time limit raises in the main thread."""


@pytest.fixture
def statements():
    """Calls `then` after each statement that a database has carried out."""
    heard = []

    def carried_out(*_):
        for then in heard:
            then()

    event.listen(Engine, "after_cursor_execute", carried_out)
    yield heard
    event.remove(Engine, "after_cursor_execute", carried_out)


@pytest.fixture
def tracker(empty_database, tmp_path):
    file = shutil.copy(empty_database, tmp_path / "mlflow.db")
    client = MlflowClient(f"sqlite:///{file}")
    run = client.create_run(client.create_experiment("stopped")).info.run_id
    return Tracker(f"sqlite:///{file}", run)


def record(epoch):
    return EpochRecord(epoch, 0.1, 1.0, 0.5, 1.0, 0.5)


@pytest.mark.parametrize("way", [signal.SIGALRM, signal.SIGINT])
def test_write_that_is_stopped_after_any_statement_holds_no_lock(tracker, statements, way):
    def stop(*_):
        raise TimedOut

    def at(wanted):
        def then():
            count[0] += 1
            if count[0] == wanted:
                signal.raise_signal(way)

        return then

    before = signal.signal(way, stop)
    stopped = []  # as a flow's state does, hold on to the error with its frames
    try:
        for wanted in range(1, 100):
            count = [0]
            statements[:] = [at(wanted)]
            try:
                tracker.log_epoch("train", record(wanted))
            except TimedOut as error:
                stopped.append(error)
            statements.clear()
            if count[0] < wanted:
                break
            other = client_of(tracker.uri)
            other.set_tag(tracker.run_id, "after", str(wanted))
    finally:
        signal.signal(way, before)
    assert len(stopped) == wanted - 1 > 5
    known = {
        m.step
        for m in client_of(tracker.uri).get_metric_history(tracker.run_id, "train/train_loss")
    }
    assert known == set(range(1, wanted + 1))
