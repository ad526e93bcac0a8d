"""Four processes log to one MLflow database at once: every run is complete, no row is lost."""

import shutil
import subprocess
import sys

import pytest
from mlflow import MlflowClient

from mipp.config import load_params
from tasks.tracking import tracked_run

pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.xdist_group("tracking"),
    pytest.mark.slow,  # four processes import everything
]
CURVES = {
    "lr": lambda epoch: 0.1,
    "train_loss": lambda epoch: 1 / epoch,
    "train_accuracy": lambda epoch: 0.5,
    "validation_accuracy": lambda epoch: 0.25,
}
WRITE = """
import os, sys
from mipp.config import load_params
from mipp.training import EpochRecord
from tasks.tracking import tracked_run
import mlflow  # once for all that are forked

uri, epochs, writers = sys.argv[1], int(sys.argv[2]), []
for seed in range(4):
    writers.append(os.fork())
    if not writers[-1]:
        params = load_params(overrides=[f"seed={seed}", f"tracking.uri={uri}"])
        with tracked_run(params, "work") as one:
            for epoch in range(1, epochs + 1):
                one.log_epoch("train", EpochRecord(epoch, 0.1, 1 / epoch, 0.5, None, 0.25))
        os._exit(0)
sys.exit(any([os.waitpid(writer, 0)[1] for writer in writers]))
"""


@pytest.mark.parametrize(("epochs", "made"), [(5, True), (100, False)])
def test_no_run_and_no_epoch_of_four_writers_is_lost(epochs, made, empty_database, tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    if made:
        shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    command = [sys.executable, "-c", WRITE, uri, str(epochs)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with tracked_run(load_params(overrides=["seed=4", f"tracking.uri={uri}"]), "alone") as alone:
        pass
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("mipp").experiment_id])
    whole = next(run.data for run in runs if run.info.run_id == alone.run_id)
    assert sorted(run.data.tags["seed"] for run in runs) == list("01234")
    for run in runs:
        assert run.info.status == "FINISHED"
        assert run.data.params == whole.params | {"seed": run.data.tags["seed"]}
        assert run.data.tags.keys() == whole.tags.keys()
        steps = range(1, epochs + 1 if run.data is not whole else 1)
        for name, values in CURVES.items():
            points = client.get_metric_history(run.info.run_id, f"train/{name}")
            known = [(point.step, point.value) for point in points]
            assert known == [(step, values(step)) for step in steps], name
