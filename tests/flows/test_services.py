"""Services outlive the command that starts them, and only they are stopped."""

import json
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from flows import services
from mipp.errors import ServiceError

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    services.stop("sleeper")


def test_service_runs_until_it_is_stopped(here):
    services.start("sleeper", SLEEP, {})
    process = services.running("sleeper")
    assert process.is_running()
    assert services.stop("sleeper")
    assert services.running("sleeper") is None
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    assert not services.stop("sleeper")


def test_what_a_service_started_ends_with_it(here):
    parent = f"import subprocess, time; subprocess.Popen({SLEEP!r}); time.sleep(60)"
    services.start("sleeper", [sys.executable, "-c", parent], {})
    log = here / ".server/sleeper.log"
    while "up" not in log.read_text():
        assert services.running("sleeper")
        time.sleep(0.05)
    (child,) = services.running("sleeper").children()
    services.stop("sleeper")
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_service_that_ends_while_it_is_stopped_counts_as_stopped(here, monkeypatch):
    services.start("sleeper", SLEEP, {})
    process, send = services.running("sleeper"), psutil.Process.send_signal

    def too_late(self, ending):
        send(self, signal.SIGKILL)
        raise psutil.NoSuchProcess(self.pid)

    monkeypatch.setattr(psutil.Process, "send_signal", too_late)
    assert services.stop("sleeper")
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_process_that_got_the_id_since_is_left_alone(here):
    other = subprocess.Popen(SLEEP, stdout=subprocess.DEVNULL)
    try:
        (here / ".server").mkdir()
        born = psutil.Process(other.pid).create_time() - 100
        (here / ".server/sleeper.json").write_text(json.dumps({"pid": other.pid, "born": born}))
        assert services.running("sleeper") is None
        assert not services.stop("sleeper")
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_port_in_use_is_refused_with_the_option_that_changes_it(here):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(ServiceError, match=rf"(?s){port}.*--port"):
            services.require_free(port, "--port")
    services.require_free(port, "--port")


def test_service_that_ends_at_once_is_reported_with_its_last_words(here):
    services.start("sleeper", [sys.executable, "-c", "raise SystemExit('no database')"], {})
    with pytest.raises(ServiceError, match=r"(?s)sleeper.*no database"):
        services.wait_for("sleeper", "http://127.0.0.1:9/")
