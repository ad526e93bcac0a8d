"""`mipp train` by two processes: one is killed, then the command; torchrun starts them instead."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from processes import ROOT, SMALLEST

pytestmark = pytest.mark.slow
SECONDS = 300
TWO = (*SMALLEST, "train.epochs=40", "compute.devices=2")
KNOWN = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
LAUNCHED = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def command(workdir, overrides=TWO, launcher=(), stage="train"):
    told = (part for override in overrides for part in ("--set", override))
    return [sys.executable, *launcher, "-m", "mipp", stage, "--workdir", str(workdir), *told]


def begun(workdir):
    """The command, and its two processes, once they have saved an epoch."""
    process = subprocess.Popen(command(workdir), stderr=subprocess.PIPE, text=True, env=KNOWN)
    until = time.monotonic() + SECONDS
    while not (workdir / ".train.resume").exists() and time.monotonic() < until:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    ranks = [
        child
        for child in psutil.Process(process.pid).children()
        if "mipp.stages.rank" in child.cmdline()
    ]
    assert len(ranks) == 2
    return process, ranks


def run(*arguments, **options):
    return subprocess.run(
        command(*arguments, **options), capture_output=True, text=True, timeout=SECONDS, env=KNOWN,
        check=False,
    )  # fmt: skip


def history(workdir):
    return json.loads((workdir / "train/history.json").read_text())


@pytest.fixture(scope="module")
def undisturbed(folder):
    done = run(folder / "undisturbed")
    assert done.returncode == 0, done.stderr
    return folder / "undisturbed/train"


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_stops_the_run_with_one_line_and_it_goes_on(folder, undisturbed, victim):
    workdir = folder / f"victim{victim}"
    process, ranks = begun(workdir)
    ranks[victim].kill()
    said = process.communicate(timeout=SECONDS)[1].splitlines()
    assert process.returncode == 3
    assert said[0] == "train: running"
    (line,) = said[1:]
    assert line.startswith(
        f"LostRankError: rank {victim} (process {ranks[victim].pid}) of stage train was killed by "
        "signal 9 (SIGKILL)"
    )
    assert not any(rank.is_running() for rank in ranks)
    assert not (workdir / "train").exists()
    assert run(workdir).returncode == 0
    for name in ("model.safetensors", "history.json"):
        assert (workdir / "train" / name).read_bytes() == (undisturbed / name).read_bytes()


@pytest.mark.parametrize(
    ("ending", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, -15), (signal.SIGINT, 130)]
)
def test_processes_end_with_their_command(folder, ending, code):
    process, ranks = begun(folder / ending.name)
    process.send_signal(ending)
    process.communicate(timeout=SECONDS)
    assert process.returncode == code
    assert psutil.wait_procs(ranks, timeout=20)[1] == []


def test_an_error_of_a_rank_is_that_of_the_command(folder):
    done = run(folder / "diverges", (*TWO, "train.lr=1000", "train.schedule=constant"))
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[1].startswith("TrainingError: training diverged: epoch 1, batch ")
    assert "Traceback" not in done.stderr


def test_torchrun_gives_the_same_weights_as_our_own_processes(folder, undisturbed):
    done = run(folder / "torchrun", launcher=LAUNCHED)
    assert done.returncode == 0, done.stderr
    weights = folder / "torchrun/train/model.safetensors"
    assert weights.read_bytes() == (undisturbed / "model.safetensors").read_bytes()


def test_whole_run_by_two_processes_is_that_of_one_up_to_rounding(folder):
    told = (*SMALLEST, "finetune.distill=0.5", "finetune.epochs=2", "compute.devices=2")
    both, alone = folder / "both", folder / "alone"
    for workdir, overrides in ((both, told), (alone, told[:-1])):
        done = run(workdir, overrides, stage="run")
        assert done.returncode == 0, done.stderr
    found, expected = (
        [
            [
                record["train_loss"]
                for record in json.loads(Path(work, stage, "history.json").read_text())
            ]
            for stage in ("train", "finetune")
        ]
        for work in (both, alone)
    )
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert found[1] == pytest.approx(expected[1], rel=1e-5)


def test_torchrun_of_another_number_of_processes_is_refused(folder):
    done = run(folder / "three", SMALLEST, launcher=LAUNCHED)
    assert "2 processes were started to train, compute.devices asks for 1" in done.stderr
    assert "exitcode  : 2" in done.stderr
