"""The sweep's flow computes what `mipp sweep` does, and MLflow keeps a parent with children."""

import contextlib

import pytest
from mlflow import MlflowClient

from flows.sweep import sweep
from mipp.experiments.results import TABLE, read_table

pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.xdist_group("prefect"),
    pytest.mark.slow,  # starts a server and two processes
]

SPEC = """
title: two methods
set:
  data.limit: 256
  data.calibration: 64
  model.name: lenet-300-100
  data.size: 8
  train.epochs: 1
  finetune.epochs: 1
  extract.rows: 512
  tracking.uri: sqlite:///mlflow.db
methods: [mipp, random-same-widths]
budgets: ["ratio:0.5"]
seeds: [0]
"""


def test_every_point_is_a_child_whose_ratio_is_param_and_metric(prefect, tmp_path):
    (tmp_path / "two.yaml").write_text(SPEC)
    with contextlib.chdir(tmp_path):  # MLflow puts artifacts into the current folder
        for _ in range(2):  # the second time there is nothing to compute, and no second run
            assert sweep("two.yaml", "full", "root", workers=2) == []
        client = MlflowClient("sqlite:///mlflow.db")
        runs = client.search_runs([client.get_experiment_by_name("mipp").experiment_id])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    (parent,) = [run for run in runs if run not in children]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert {run.data.tags["method"] for run in children} == {"mipp", "random-same-widths"}
    rows = {row["method"]: row for row in read_table(tmp_path / "root" / TABLE)[0]}
    for run in children:
        row = rows[run.data.tags["method"]]
        assert run.data.metrics["accuracy_finetuned"] == row["accuracy_finetuned"]
        assert run.data.metrics["ratio"] == row["units_removed"]
        assert float(run.data.params["ratio"]) == pytest.approx(row["units_removed"], abs=0.005)
