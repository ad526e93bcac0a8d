"""What tests of whole processes share: parameters, command and environment."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.smallest_run import SMALLEST

ROOT = Path(__file__).parents[2]
TINY = (*SMALLEST, "train.epochs=2")


def environment(home, **more):
    """Of a process that shares nothing with the user's Prefect."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PREFECT_HOME": str(home),
        "DO_NOT_TRACK": "1",
        "OMP_NUM_THREADS": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        **more,
    }


def flow_command(workdir, overrides):
    command = [sys.executable, "-m", "flows.pipeline", "--workdir", str(workdir)]
    return [*command, *(part for override in overrides for part in ("--set", override))]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def prefect_server(home, seconds=180):
    """A Prefect server of the test's own; gives the environment of processes that use it."""
    address = f"http://127.0.0.1:{free_port()}/api"
    known = environment(home, PREFECT_API_URL=address)
    port = address.rpartition(":")[2].removesuffix("/api")
    where = ["--host", "127.0.0.1", "--port", port]
    command = [sys.executable, "-m", "prefect", "server", "start", *where]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, env=known, **quiet)
    try:
        deadline = time.monotonic() + seconds
        while not _answers(f"{address}/health"):
            assert server.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.5)
        yield known
    finally:
        server.terminate()
        server.wait(60)


def _answers(address):
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False
