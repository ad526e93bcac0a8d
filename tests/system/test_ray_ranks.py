"""Two processes of a Ray cluster train and extract as one does; one that dies is one line."""

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from processes import ROOT, SMALLEST

from mipp.config import load_params
from mipp.disk.storage import Workdir
from mipp.stages import STAGES, run_stage

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("ray") is None, reason="Ray is not installed: pip install -e '.[ray]'"
    ),
]
SECONDS = 300
EPOCHS = 40
TINY = (*SMALLEST, f"train.epochs={EPOCHS}")
PATHS = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])


def begun(workdir):
    script = Path(__file__).with_name("train_on_ray.py")
    return subprocess.Popen(
        [sys.executable, str(script), str(workdir), *TINY, "compute.devices=2"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def actors(process):
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "_Process" in child.name() + " ".join(child.cmdline())]


@pytest.fixture(scope="module")
def alone(folder):
    for stage in ("train", "extract"):
        run_stage(STAGES[stage], Workdir(folder / "alone"), load_params(overrides=TINY))
    return folder / "alone"


def losses(workdir):
    records = json.loads((workdir / "train/history.json").read_text())
    return [record["train_loss"] for record in records]


def test_a_dead_process_of_two_is_one_line_and_they_end_as_one_alone(folder, alone):
    workdir = folder / "two"
    process = begun(workdir)
    until = time.monotonic() + SECONDS
    while not (workdir / ".train.resume").exists() and time.monotonic() < until:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    first, second = actors(process)
    second.kill()
    said = process.communicate(timeout=SECONDS)[1].splitlines()
    assert process.returncode == 3, said
    (line,) = [line for line in said if line != "train: running"]
    assert line.startswith("LostRankError: rank ")
    assert f"(process {second.pid}) of stage train died" in line
    assert not first.is_running()
    assert not (workdir / "train").exists()
    process = begun(workdir)
    told, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, said
    epochs = [int(number) for number in told.split()]
    assert epochs[0] > 1  # it went on
    assert epochs == [*range(epochs[0], EPOCHS + 1)]
    assert losses(workdir) == pytest.approx(losses(alone), rel=1e-5)
    assert (workdir / "extract/manifest.json").is_file()
