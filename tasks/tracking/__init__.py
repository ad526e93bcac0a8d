"""MLflow remembers: stage folders, epochs, sweeps. The one package that imports mlflow.

`python -m tasks.tracking --workdir DIR` logs a finished work directory; the flow uses the same
code stage by stage, and epoch by epoch while a network trains.
"""

import os
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before mlflow is imported

from mipp.config import Params
from mipp.disk.storage import Workdir
from mipp.needed_stages import NAMES
from tasks.tracking.machine import watched_machine
from tasks.tracking.runs import fail_run, is_unreachable, tracked_run, tracked_sweep
from tasks.tracking.tracker import Tracker


def track(address: str | Path, params: Params) -> str:
    """Log every stage folder of a work directory; returns the id of its MLflow run.

    Parameters
    ----------
    address : a folder, or a URL, whose stage folders are brought here.
    """
    workdir = Workdir.open(address)
    with tracked_run(params, workdir.address) as tracker:
        for stage in NAMES:
            tracker.log_stage(stage, workdir.stage(stage).parent)
    return tracker.run_id


__all__ = [
    "Tracker",
    "fail_run",
    "is_unreachable",
    "track",
    "tracked_run",
    "tracked_sweep",
    "watched_machine",
]
