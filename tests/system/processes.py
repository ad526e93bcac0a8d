"""What tests of whole processes share: parameters, command and environment."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TINY = (
    "model.name=lenet-300-100",
    "data.size=8",
    "data.calibration=128",
    "train.epochs=2",
    "extract.rows=512",
    "finetune.epochs=1",
    "evaluate.latency_repeats=3",
    "compute.device=cpu",
)


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
