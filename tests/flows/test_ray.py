"""The flow on a Ray cluster of two nodes decides what threads decide, whoever dies meanwhile."""

import shutil
from collections import Counter
from importlib.util import find_spec

import pytest
from loopback_ray import TINY, Cluster, Pipeline

from mipp.config import load_params
from mipp.stages import run_all
from mipp.storage import Workdir
from mipp.workdir import read_manifest

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
