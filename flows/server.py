"""A Prefect server with a pool and a worker, and MLflow's pages, on this machine alone.

python -m flows.server start    # `make server`
python -m flows.server stop     # `make stop`: just what was started here

Addresses are of loopback. Processes, logs and Prefect's database lie in `.server/`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

import torch

from flows import services
from flows.services import FOLDER
from mipp.config import load_params
from mipp.errors import ServiceError
from mipp.process.exit_codes import exit_code

POOL = "mipp"
SERVICES = ("worker", "mlflow", "prefect")  # in the order in which they are stopped
QUIET = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # half of its processes and memory
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}
HOST = "127.0.0.1"


def start(port: int, mlflow_port: int, uri: str) -> str:
    """Start what is not running yet; returns what to tell the user."""
    api, pages = f"http://{HOST}:{port}/api", f"http://{HOST}:{mlflow_port}"
    known = {
        **QUIET,
        "PREFECT_HOME": str((FOLDER / "home").resolve()),
        "PREFECT_API_URL": api,
        "MIPP_MLFLOW_UI": pages,
        "PWD": os.getcwd(),  # where prefect.yaml has the worker run flows
    }
    if not services.running("prefect"):
        services.require_free(port, "--port")
        command = ["prefect", "server", "start", "--host", HOST, "--port", str(port)]
        services.start("prefect", _module(*command), known)
    if not services.running("mlflow"):
        services.require_free(mlflow_port, "--mlflow-port")
        where = ["--host", HOST, "--port", str(mlflow_port), "--backend-store-uri", uri]
        services.start("mlflow", _module("mlflow", "server", *where, "--workers", "1"), known)
    services.wait_for("prefect", f"{api}/health")
    services.wait_for("mlflow", f"{pages}/health")
    _install(known)
    if not services.running("worker"):
        command = ["prefect", "worker", "start", "--pool", POOL, "--name", POOL]
        services.start("worker", _module(*command), known)
    return (
        f"Prefect  http://{HOST}:{port}\nMLflow   {pages}\nlogs     {FOLDER}/\n\n"
        f"export PREFECT_API_URL={api}\n"
        "prefect deployment run 'pipeline/prune' "
        "-p overrides='[\"choose.budget=macs:0.5\"]' --watch"
    )


def stop() -> str:
    """Stop what `start` started; returns what was stopped."""
    ended = [name for name in SERVICES if services.stop(name)]
    return f"stopped {', '.join(ended)}" if ended else "nothing to stop"


def _install(known: dict[str, str]) -> None:
    """Give the server its pool, limit, automation and deployments; again is no harm."""
    cards = str(max(1, _cards()))
    for arguments in (
        ("prefect", "work-pool", "create", POOL, "--type", "process", "--overwrite"),
        ("prefect", "concurrency-limit", "create", "gpu", cards),
        ("flows.automations",),
        ("prefect", "--no-prompt", "deploy", "--all"),
    ):
        done = subprocess.run(
            _module(*arguments),
            env={**os.environ, **known},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ServiceError(
                f"the server at {known['PREFECT_API_URL']} cannot be set up.\nExpected "
                f"`{' '.join(arguments)}` to succeed, got exit code {done.returncode}; it says:\n"
                f"{(done.stdout + done.stderr)[-2000:]}"
            )


def _cards() -> int:
    """Graphics cards of this machine, each of which one task may use at a time."""
    return torch.cuda.device_count()


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", name, *arguments]


def main() -> int:
    """Start or stop the services of this folder."""
    parser = argparse.ArgumentParser(prog="python -m flows.server", description=main.__doc__)
    parser.add_argument("action", choices=("start", "stop"))
    parser.add_argument("--port", type=int, default=4200, help="of Prefect; default: %(default)s")
    parser.add_argument("--mlflow-port", type=int, default=5000, help="default: %(default)s")
    parser.add_argument("--config", default=None, help="its tracking.uri is what MLflow shows")
    options = parser.parse_args()
    return exit_code(lambda: print(_act(options)))


def _act(options: argparse.Namespace) -> str:
    if options.action == "stop":
        return stop()
    uri = load_params(options.config).tracking.uri or "sqlite:///mlflow.db"
    return start(options.port, options.mlflow_port, uri)


if __name__ == "__main__":
    sys.exit(main())
