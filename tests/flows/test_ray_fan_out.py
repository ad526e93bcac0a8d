"""Shards and points of a sweep on a Ray cluster of two nodes give what one process gives."""

import os
from importlib.util import find_spec

import numpy as np
import pytest
from loopback_ray import ROOT, TINY, Cluster, FlowProcess, Pipeline
from mlflow import MlflowClient
from PIL import Image

from mipp.config import load_params
from mipp.disk.storage import Workdir
from mipp.disk.workdir import read_manifest
from mipp.experiments.results import TABLE, read_table
from mipp.experiments.sweep import plan_sweep, run_sweep
from mipp.stages import STAGES, run_stage
from tests.untimed_rows import untimed

pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("prefect_ray") is None, reason="Ray is not installed: pip install -e '.[ray]'"
    ),
]

FOLDER = (*TINY, "data.name=image-folder", "extract.batch_size=32")
SPEC = """
title: methods that share stages
set:
  data.limit: 256
  data.calibration: 64
  data.size: 8
  model.name: lenet-300-100
  train.epochs: 1
  finetune.epochs: 1
  extract.rows: 512
methods: [mipp, l1, random-same-widths]
budgets: ["ratio:0.5"]
seeds: [0, 1]
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    running = Cluster(tmp_path_factory.mktemp("ray"))
    yield running
    running.stop()


def draw_images(folder):
    """Grey noise in two classes."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 80), ("test", 10)):
        for name, i in ((name, i) for name in "ab" for i in range(count)):
            place = folder / part / name
            place.mkdir(parents=True, exist_ok=True)
            pixels = generator.integers(0, 256, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{i}.png")


def test_shards_on_two_nodes_are_the_store_of_one_process(cluster, tmp_path, monkeypatch):
    draw_images(tmp_path / "images")
    monkeypatch.chdir(ROOT)
    # which a worker finds if it begins where the flow does; the cluster began elsewhere
    given = [*FOLDER, f"data.root={os.path.relpath(tmp_path / 'images')}"]
    for stage in ("train", "extract"):
        run_stage(STAGES[stage], Workdir(tmp_path / "one"), load_params(overrides=given))
    (tmp_path / "ray").mkdir()
    with Pipeline(cluster, tmp_path / "ray/work", [*given, "extract.shards=3"]) as flow:
        flow.finish()
    ray, one = (read_manifest(tmp_path / name / "extract") for name in ("ray/work", "one"))
    assert ray == one
    shards = {f"{shard}-of-3" for shard in range(3)}
    assert {name: len(flow.attempts[name]) for name in shards} == dict.fromkeys(shards, 1)
    assert flow.process.pid not in flow.pids()  # a flow that computes by itself proves nothing


class Sweep(FlowProcess):
    """A sweep's flow; knows which processes of the cluster have worked on a point."""

    workers: frozenset[int] = frozenset()

    def look(self):
        for node in (self.cluster.head, self.cluster.other):
            self.workers |= {w.pid for w in self.cluster.workers(node, "compute")}
        return super().look()


def test_points_on_two_nodes_are_those_of_one_process(cluster, tmp_path):
    spec, uri = tmp_path / "three.yaml", f"sqlite:///{tmp_path}/mlflow.db"
    spec.write_text(SPEC)
    here = ["tracking.uri=null"]
    assert run_sweep(plan_sweep(spec, "full", tmp_path / "one", here), tmp_path / "one") == []
    sets = ("--set", f"tracking.uri={uri}")
    options = (str(spec), "--scale", "full", "--root", str(tmp_path / "ray"), *sets)
    with Sweep(cluster, tmp_path, "flows.sweep", *options) as flow:
        flow.finish()
    one, ray = (read_table(tmp_path / name / TABLE)[0] for name in ("one", "ray"))
    assert len(one) == 6
    assert [untimed(row) for row in ray] == [untimed(row) for row in one]
    assert [row["commit"] for row in ray] == [row["commit"] for row in one]
    assert flow.workers
    assert not (tmp_path / "ray/work").is_dir() or not any((tmp_path / "ray/work").iterdir())
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("mipp").experiment_id])
    assert len(runs) == 1 + 6
    assert {run.info.status for run in runs} == {"FINISHED"}
