"""The flow on a Ray cluster of two nodes decides what threads decide, whoever dies meanwhile."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec

import pytest
from loopback_ray import ROOT, TINY, Cluster, Pipeline

from mipp.config import load_params
from mipp.disk.storage import Workdir
from mipp.disk.workdir import read_manifest
from mipp.stages import run_all

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("prefect_ray") is None, reason="Ray is not installed: pip install -e '.[ray]'"
    ),
]

LONG = [  # seconds a pair, and no stage after it depends on how long
    *TINY,
    "choose.estimator=reconstruction",
    "estimate.repeats=2",
    "estimate.retrain_epochs=1",
    "estimate.epochs=400",
    "estimate.patience=400",
]

THEIRS = """
import numpy as np
from dataclasses import dataclass, replace
from torch import nn
from mipp.information.estimators import ESTIMATORS

class Net(nn.Sequential):
    def __init__(self, classes, channels):
        layers = (nn.Conv2d(channels, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU())
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))

def load():
    images = np.random.default_rng(0).integers(0, 256, (300, 12, 12), dtype=np.uint8)
    every = [(image, int(image.mean() > 127)) for image in images]
    return every[:200], every[200:]

@dataclass(frozen=True)
class Coarse:
    ridge: float = 1e-2
    resolution: float = 3.0

ESTIMATOR = replace(ESTIMATORS["gaussian"], settings=Coarse)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    running = Cluster(tmp_path_factory.mktemp("ray"))
    yield running
    running.stop()


def by_threads(folder, overrides):
    run_all(Workdir(folder), load_params(overrides=overrides))
    return folder


def extracted(reference, workdir):
    """A work directory in which `estimate` is the first stage that is not done."""
    for stage in ("train", "extract"):
        shutil.copytree(reference / stage, workdir / stage)
    return workdir


def assert_same_result(workdir, reference):
    for stage in ("estimate", "choose", "prune", "finetune"):
        assert read_manifest(workdir / stage).outputs == read_manifest(reference / stage).outputs
    selection = "choose/selection.json"
    assert (workdir / selection).read_bytes() == (reference / selection).read_bytes()


def test_two_nodes_decide_what_threads_decide(cluster, tmp_path):
    reference = by_threads(tmp_path / "threads", TINY)
    (tmp_path / "ray").mkdir()
    with Pipeline(cluster, extracted(reference, tmp_path / "ray/work"), TINY) as flow:
        flow.finish()
    assert_same_result(tmp_path / "ray/work", reference)
    assert {len(lines) for lines in flow.attempts.values()} == {1}
    assert flow.process.pid not in flow.pids()  # a flow that computes by itself proves nothing


def test_names_that_people_bring_are_found_on_every_node(cluster, tmp_path):
    """Their module lies in the folder in which the flow starts, and nowhere else."""
    (tmp_path / "theirs.py").write_text(THEIRS)
    names = {"model.name": "Net", "data.name": "load", "choose.estimator": "ESTIMATOR"}
    theirs = [*TINY, *(f"{field}=theirs:{name}" for field, name in names.items())]
    sets = [word for override in theirs for word in ("--set", override)]
    alone = [sys.executable, "-m", "mipp", "run", "--workdir", "alone", *sets]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run(alone, cwd=tmp_path, env=environment, check=True)
    with Pipeline(cluster, tmp_path / "ray", theirs, start_in=tmp_path) as flow:
        flow.finish()
    assert_same_result(tmp_path / "ray", tmp_path / "alone")
    assert flow.attempts
    assert flow.process.pid not in flow.pids()


def test_death_of_a_worker_and_of_a_node_changes_nothing(cluster, tmp_path):
    reference = by_threads(tmp_path / "threads", LONG)
    (tmp_path / "ray").mkdir()
    with Pipeline(cluster, extracted(reference, tmp_path / "ray/work"), LONG) as flow:
        flow.until(lambda: at_work(cluster, cluster.head, flow))
        at_work(cluster, cluster.head, flow)[0].kill()
        flow.until(lambda: at_work(cluster, cluster.other, flow))
        cluster.kill(cluster.other)
        flow.finish()
    assert_same_result(tmp_path / "ray/work", reference)
    counts = Counter(len(lines) for lines in flow.attempts.values())
    assert counts[2] >= 2, flow.attempts  # both deaths hit a pair that was being computed
    assert set(counts) == {1, 2}, flow.attempts
    assert flow.process.pid not in flow.pids()


def at_work(cluster, node, flow):
    """Workers of a node that have started on a pair and not ended."""
    return [w for w in cluster.workers(node, "estimate") if w.pid in flow.pids()]
