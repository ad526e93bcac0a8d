"""Train by two processes of a Ray cluster of this machine: WORKDIR, then overrides.

Writes the epochs' numbers, and ends as `mipp train` does.
"""

import os
import sys

from mipp.config import load_params
from mipp.disk.storage import Workdir
from mipp.process.exit_codes import exit_code
from mipp.stages import STAGES, run_stage


def tell(_, record):
    sys.stdout.write(f"{record.epoch}\n")
    sys.stdout.flush()


def train():
    address, *overrides = sys.argv[1:]
    params = load_params(overrides=[*overrides, "compute.runner=ray"])
    for stage in ("train", "extract"):
        run_stage(STAGES[stage], Workdir.open(address), params, tell)


if __name__ == "__main__":
    settings = {"AUTH_MODE": "disabled", "USAGE_STATS_ENABLED": "0", "worker_niceness": "0"}
    os.environ |= {f"RAY_{name}": value for name, value in settings.items()}
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    sys.exit(exit_code(train))
