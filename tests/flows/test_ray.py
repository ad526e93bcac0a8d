"""The flow on a Ray cluster of two nodes decides what threads decide, whoever dies meanwhile."""

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from mipp.config import load_params
from mipp.stages import run_all
from mipp.workdir import read_manifest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("prefect_ray") is None, reason="Ray is not installed: pip install -e '.[ray]'"
    ),
]

ROOT = Path(__file__).parents[2]
TINY = [
    "model.name=lenet5",
    "data.size=16",
    "data.calibration=128",
    "train.epochs=1",
    "extract.rows=512",
    "finetune.epochs=0",
    "evaluate.latency_repeats=3",
    "evaluate.export=[]",
    "compute.device=cpu",
    "tracking.uri=null",
]
LONG = [  # seconds a pair, and no stage after it depends on how long
    *TINY,
    "choose.method=l1",
    "choose.estimator=reconstruction",
    "estimate.repeats=2",
    "estimate.epochs=400",
    "estimate.patience=400",
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    from loopback_ray import Cluster

    running = Cluster(tmp_path_factory.mktemp("ray"))
    yield running
    running.stop()


class Flow:
    """`python -m flows.pipeline` in a process of its own, on a cluster, as long as the block."""

    def __init__(self, cluster, workdir, overrides):
        self.workdir, self.log = workdir, workdir.with_name("flow.txt")
        asked = [*overrides, "compute.runner=ray", f"compute.address={cluster.address}"]
        sets = [word for override in asked for word in ("--set", override)]
        environment = {
            **os.environ,
            **cluster.environment,
            "OMP_NUM_THREADS": "1",  # as in this process
            "PREFECT_HOME": str(workdir.with_name("prefect")),
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flows.pipeline", "--workdir", str(workdir), *sets],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )
        self.attempts = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def look(self):
        """Notes who works on which pair; the folder goes when all are done."""
        for file in self.workdir.glob(".estimate.parts-*/*.attempts"):
            try:
                lines = file.read_text().splitlines()
            except FileNotFoundError:
                continue
            self.attempts[file.stem] = lines
        return self.process.poll() is None

    def until(self, happened):
        for _ in range(6000):
            if happened():
                return
            assert self.look(), self.log.read_text()
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def finish(self):
        while self.look():
            time.sleep(0.1)
        assert self.process.returncode == 0, self.log.read_text()

    def pids(self):
        return {int(line.split()[1]) for lines in self.attempts.values() for line in lines}


def by_threads(folder, overrides):
    run_all(folder, load_params(overrides=overrides))
    return folder


def extracted(reference, workdir):
    """A work directory in which `estimate` is the first stage that is not done."""
    for stage in ("train", "extract"):
        shutil.copytree(reference / stage, workdir / stage)
    return workdir


def assert_same_result(workdir, reference):
    for stage in ("estimate", "choose", "prune", "finetune"):
        assert read_manifest(workdir, stage).outputs == read_manifest(reference, stage).outputs
    selection = "choose/selection.json"
    assert (workdir / selection).read_bytes() == (reference / selection).read_bytes()


def test_two_nodes_decide_what_threads_decide(cluster, tmp_path):
    reference = by_threads(tmp_path / "threads", TINY)
    (tmp_path / "ray").mkdir()
    with Flow(cluster, extracted(reference, tmp_path / "ray/work"), TINY) as flow:
        flow.finish()
    assert_same_result(tmp_path / "ray/work", reference)
    assert {len(lines) for lines in flow.attempts.values()} == {1}
    assert flow.process.pid not in flow.pids()  # a flow that computes by itself proves nothing


def test_death_of_a_worker_and_of_a_node_changes_nothing(cluster, tmp_path):
    reference = by_threads(tmp_path / "threads", LONG)
    (tmp_path / "ray").mkdir()
    with Flow(cluster, extracted(reference, tmp_path / "ray/work"), LONG) as flow:
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
