"""A sweep that is killed again and again ends with the table of one that was not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mipp.experiments.results import TABLE, read_table
from tests.untimed_rows import untimed

SPEC = """
title: forty points
set:
  data.limit: 256
  data.calibration: 64
  data.validation: 0.0
  train.epochs: 2
  finetune.epochs: 1
  extract.rows: 512
  prune.images: 64
  choose.min_channels: 0
methods: [mipp, l1, taylor, random-same-widths, re-initialised]
budgets: ["ratio:0.5", "ratio:0.95"]
seeds: [0, 1]
start: [trained, untrained]
"""
POINTS = 40  # small-dense is not among them: its epochs follow from measured seconds


def start(spec, root):
    command = ["sweep", str(spec), "--scale", "full", "--root", str(root), "--workers", "2"]
    return subprocess.Popen([sys.executable, "-m", "mipp", *command], start_new_session=True)


def finished(root):
    return len(list(Path(root).glob("points/*.json")))


@pytest.mark.slow  # eighty points, one to three minutes
def test_three_kills_leave_the_table_of_an_undisturbed_sweep(tmp_path):
    spec = tmp_path / "forty.yaml"
    spec.write_text(SPEC)
    assert start(spec, tmp_path / "whole").wait(900) == 0

    generator = np.random.default_rng(int.from_bytes(os.urandom(4)))
    for more in generator.integers(1, 9, 3):  # points, after which the sweep is killed
        process = start(spec, tmp_path / "killed")
        wanted = finished(tmp_path / "killed") + more
        while finished(tmp_path / "killed") < wanted and process.poll() is None:
            time.sleep(0.02)
        time.sleep(generator.uniform(0, 1))
        assert process.poll() is None, "ended before it was killed"
        os.kill(process.pid, signal.SIGKILL)  # the parent alone: its workers must end by themselves
        process.wait()
    assert finished(tmp_path / "killed") < POINTS
    assert start(spec, tmp_path / "killed").wait(900) == 0

    whole, killed = (read_table(tmp_path / n / TABLE)[0] for n in ("whole", "killed"))
    assert len(whole) == POINTS
    assert [untimed(row) for row in killed] == [untimed(row) for row in whole]
    assert not any((tmp_path / "killed" / "work").iterdir())
