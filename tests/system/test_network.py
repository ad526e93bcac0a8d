"""What mipp says to the network: nothing, and where servers run, they listen on loopback alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows import server, services
from tests.smallest_run import SMALLEST

ROOT = Path(__file__).parents[2]
DOORS = {"command": ["mipp", "run"], "flow": ["flows.pipeline"]}
# Runs in every Python that the command starts, and notes whom it looks for.
LISTENER = """
import os, sys
def note(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo"):
        address = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
        with open(os.environ["NOTES"], "a") as notes:
            notes.write(f"{address[0] if isinstance(address, tuple) else address}\\n")
sys.addaudithook(note)
"""
LOOPBACK = {"127.0.0.1", "localhost", "::1", "None"}


@pytest.fixture
def cut_off():
    """The beginning of a command that runs in a network namespace with loopback alone."""
    begin = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c"]
    up = "ip link set lo up"
    try:
        subprocess.run([*begin, up], check=True, capture_output=True, timeout=120)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("network namespaces, or ip, cannot be had here")
    return [*begin, f'{up} && exec "$0" "$@"']


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
def test_no_run_looks_for_anybody_elsewhere(door, cut_off, tmp_path):
    (tmp_path / "listener").mkdir()
    (tmp_path / "listener/sitecustomize.py").write_text(LISTENER)
    notes = tmp_path / "notes"
    notes.touch()
    untold = {k: v for k, v in os.environ.items() if "TRACK" not in k and "ANALYTICS" not in k}
    store = f"sqlite:///{tmp_path}/mlflow.db"
    options = [part for over in (*SMALLEST, f"tracking.uri={store}") for part in ("--set", over)]
    done = subprocess.run(
        [*cut_off, sys.executable, "-m", *DOORS[door], "--workdir", "work", *options],
        cwd=tmp_path,
        env={
            **untold,
            "PYTHONPATH": os.pathsep.join([str(tmp_path / "listener"), str(ROOT)]),
            "PREFECT_HOME": str(tmp_path / "home"),
            "NOTES": str(notes),
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",  # on a busy machine
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    asked = set(notes.read_text().split())
    assert asked <= (LOOPBACK if door == "flow" else set())


def test_servers_listen_on_loopback_and_tell_nobody(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    started = {}
    monkeypatch.setattr(services, "start", lambda name, *given: started.update({name: given}))
    monkeypatch.setattr(services, "wait_for", lambda name, address: None)
    monkeypatch.setattr(services, "require_free", lambda port, option: None)
    monkeypatch.setattr(server, "_install", lambda known: None)
    server.start(4200, 5000, "sqlite:///mlflow.db")
    assert started.keys() == {"prefect", "mlflow", "worker"}
    for name, (command, known) in started.items():
        assert known["DO_NOT_TRACK"] == "1"
        assert known["MLFLOW_DISABLE_TELEMETRY"] == "true"
        if name != "worker":  # which listens on nothing
            assert command[command.index("--host") + 1] == "127.0.0.1"
