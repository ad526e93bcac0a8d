"""What stops a run in the midst of a write to MLflow leaves its database free for the others."""

import shutil
import signal
import threading
import time

import pytest
from mlflow import MlflowClient
from sqlalchemy import event
from sqlalchemy.engine import Engine

from mipp.training import EpochRecord
from tasks.tracking import client
from tasks.tracking.client import client_of
from tasks.tracking.tracker import Tracker

pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.xdist_group("tracking"),
]


class TimedOut(BaseException):
    """What a time limit raises in the main thread."""


@pytest.fixture
def statements(tracker):
    """Calls `then` after each statement that the tracker's database has carried out."""
    heard = []

    def carried_out(connection, *_):
        if str(connection.engine.url) == tracker.uri:  # others have databases in this process, too
            for then in heard:
                then()

    event.listen(Engine, "after_cursor_execute", carried_out)
    yield heard
    event.remove(Engine, "after_cursor_execute", carried_out)


@pytest.fixture
def tracker(empty_database, tmp_path):
    file = shutil.copy(empty_database, tmp_path / "mlflow.db")
    empty = MlflowClient(f"sqlite:///{file}")
    run = empty.create_run(empty.create_experiment("stopped")).info.run_id
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


def test_call_that_is_stopped_as_its_thread_starts_has_ended_or_never_begins(monkeypatch):
    begun, ended = threading.Event(), threading.Event()

    class Slow:
        def write(self):
            begun.set()
            time.sleep(0.2)
            ended.set()

    start = threading.Thread.start

    def stopped(thread):
        start(thread)
        begun.wait(timeout=0.2)
        raise TimedOut

    monkeypatch.setattr(threading.Thread, "start", stopped)
    with pytest.raises(TimedOut):
        client._Whole(Slow()).write()
    began = begun.is_set()
    assert ended.is_set() == began
