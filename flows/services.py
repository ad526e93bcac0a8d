"""Processes of this folder that outlive the command which starts them; their ids lie in a folder.

Only what is written down there is ever stopped, and only if it is still the process that was
started: an id that has gone to another process since is left alone.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from mipp.disk.whole_files import write_whole
from mipp.errors import ServiceError

FOLDER = Path(".server")
SECONDS = 180.0  # that a service may take to answer
GRACE = 20.0  # and to end when asked to


def start(name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Start a service in a session of its own and write down which process it is."""
    FOLDER.mkdir(exist_ok=True)
    log = str(FOLDER / f"{name}.log")
    outputs = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        command[0],
        command,
        {**os.environ, **environment},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, outputs, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    noted = {"pid": pid, "born": psutil.Process(pid).create_time()}
    write_whole(_note(name), json.dumps(noted))


def running(name: str) -> psutil.Process | None:
    """The process that was started under this name, None when it has ended."""
    try:
        noted = json.loads(_note(name).read_text())
        process = psutil.Process(noted["pid"])
        alive = process.create_time() == noted["born"] and process.status() != "zombie"
    except (OSError, ValueError, TypeError, LookupError, psutil.NoSuchProcess):
        return None  # it has ended, or what is noted of it is damaged
    return process if alive else None


def stop(name: str) -> bool:
    """End a service and what it started; False when it was not running."""
    process = running(name)
    _note(name).unlink(missing_ok=True)
    if process is None:
        return False
    family = [process]
    with suppress(psutil.NoSuchProcess):  # it ends by itself meanwhile
        family += process.children(recursive=True)
    for ending in (signal.SIGTERM, signal.SIGKILL):
        for member in psutil.wait_procs(family, timeout=0)[1]:
            with suppress(psutil.NoSuchProcess):  # it has ended with its parent
                member.send_signal(ending)
        if not psutil.wait_procs(family, timeout=GRACE)[1]:
            break
    return True


def require_free(port: int, option: str) -> None:
    """Refuse a port of loopback that something else listens on.

    Raises
    ------
    ServiceError : it is taken.
    """
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise ServiceError(
                f"port {port} of 127.0.0.1 is taken ({option}).\nExpected a port that nothing "
                f"listens on, got one that answers; give another with {option}, or end what "
                "uses it (`make stop` ends what `make server` started)."
            )


def wait_for(name: str, address: str) -> None:
    """Return when a service answers at an address.

    Raises
    ------
    ServiceError : it ended, or does not answer in time.
    """
    deadline = time.monotonic() + SECONDS
    while running(name) and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    log = FOLDER / f"{name}.log"
    raise ServiceError(
        f"service {name!r} does not answer at {address}.\nExpected an answer within "
        f"{SECONDS:.0f} seconds, got none; its last lines are in {log}:\n"
        + "\n".join(log.read_text(errors="replace").splitlines()[-5:])
    )


def _note(name: str) -> Path:
    return FOLDER / f"{name}.json"
