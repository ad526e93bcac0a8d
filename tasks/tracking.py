"""MLflow remembers: reads stage folders and logs them. The one module that imports mlflow.

`python -m tasks.tracking --workdir DIR` logs a finished work directory; the flow uses the same
code stage by stage, and epoch by epoch while a network trains.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunStatus
from mlflow.exceptions import MlflowException

from mipp.config import Params, dump_params, load_params
from mipp.errors import ConfigError, InputError, WorkdirError
from mipp.stages import STAGES
from mipp.training import EpochRecord
from mipp.workdir import fingerprint, read_manifest

ARTIFACTS = ("choose/nodes.parquet", "choose/selection.json", "report/report.md")
FOLDERS = ("report/figures",)


@dataclass(frozen=True)
class Tracker:
    """One MLflow run, by address and id: small enough to hand to any worker."""

    uri: str | None
    run_id: str = ""

    def log_epoch(self, stage: str, record: EpochRecord) -> None:
        """Log one epoch's curves as it ends."""
        self._log_epochs(stage, [vars(record)])

    def log_stage(self, stage: str, workdir: Path) -> None:
        """Log what a stage folder holds; what is there already is not logged twice."""
        if self.uri is None:
            return
        folder = workdir / stage
        history = folder / "history.json"
        if history.exists():
            known = self._client().get_metric_history(self.run_id, f"{stage}/train_loss")
            self._log_epochs(stage, json.loads(history.read_text())[len(known) :])
        if (folder / "metrics.json").exists():
            self._log_metrics(json.loads((folder / "metrics.json").read_text()))
        manifest = read_manifest(workdir, stage)
        if manifest is None:
            raise WorkdirError(
                f"work directory {workdir} has no stage {stage!r} to log.\nExpected "
                f"{folder}/manifest.json, got none; run `mipp {stage} --workdir {workdir}` "
                "first, or `mipp run` for all stages."
            )
        self._client().set_tag(self.run_id, f"mipp.{stage}", manifest.digest())
        self._log_files(stage, workdir)

    def _log_epochs(self, stage: str, records: list[dict[str, Any]]) -> None:
        if self.uri is None:
            return
        metrics = [
            Metric(f"{stage}/{name}", float(value), 0, record["epoch"])
            for record in records
            for name, value in record.items()
            if name != "epoch" and value is not None
        ]
        if metrics:
            self._client().log_batch(self.run_id, metrics=metrics)

    def _log_metrics(self, values: Mapping[str, Any]) -> None:
        known = self._client().get_run(self.run_id).data.metrics
        numbers = {
            name: value
            for name, value in values.items()
            if isinstance(value, (int, float)) and known.get(name) != float(value)
        }
        others = {
            k: v for k, v in values.items() if v is not None and not isinstance(v, (int, float))
        }
        now = int(time.time() * 1000)  # of two values at one step MLflow shows the later
        metrics = [Metric(name, float(value), now, 0) for name, value in numbers.items()]
        self._client().log_batch(self.run_id, metrics=metrics)
        for name, value in others.items():
            text = value if isinstance(value, str) else json.dumps(value)
            self._client().set_tag(self.run_id, name, text)

    def _log_files(self, stage: str, workdir: Path) -> None:
        for file in (*ARTIFACTS, "report/report.html"):
            if file.startswith(f"{stage}/"):
                self._client().log_artifact(self.run_id, str(workdir / file), stage)
        for folder in FOLDERS:
            if folder.startswith(f"{stage}/") and (workdir / folder).is_dir():
                self._client().log_artifacts(self.run_id, str(workdir / folder), folder)

    def _client(self) -> MlflowClient:
        return MlflowClient(self.uri)


@contextmanager
def tracked_run(params: Params, workdir: Path) -> Iterator[Tracker]:
    """A tracker whose run ends with the block: finished, or failed when the block raises.

    The same parameters over the same work directory continue the same run, so that a killed
    flow leaves one run, not two.
    """
    uri = params.tracking.uri
    if uri is None:
        yield Tracker(None)
        return
    try:
        client = MlflowClient(uri)
        run = _find_or_create(client, params, workdir)
    except MlflowException as error:
        raise ConfigError(
            f"tracking.uri: MLflow cannot keep its runs at {uri}.\nExpected an address such as "
            f"sqlite:///mlflow.db or that of a server; MLflow says: {error}"
        ) from error
    client.update_run(run.info.run_id, RunStatus.to_string(RunStatus.RUNNING))
    try:
        yield Tracker(uri, run.info.run_id)
    except BaseException:
        client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.FAILED))
        raise
    client.set_terminated(run.info.run_id)


def _find_or_create(client: MlflowClient, params: Params, workdir: Path) -> Run:
    name = params.tracking.experiment
    found = client.get_experiment_by_name(name)
    experiment = found.experiment_id if found else client.create_experiment(name)
    key = fingerprint([dump_params(params), str(workdir.resolve())])
    runs = client.search_runs([experiment], f"tags.`mipp.key` = '{key}'", max_results=1)
    if runs:
        return runs[0]
    choose = params.choose
    tags = {
        "mipp.key": key,
        "method": choose.method,
        "budget": choose.budget,
        "model": params.model.name,
        "data": params.data.name,
        "seed": str(params.seed),
    }
    title = f"{params.model.name} {params.data.name} {choose.method} {choose.budget}"
    run = client.create_run(experiment, tags=tags, run_name=f"{title} seed {params.seed}")
    flat = [Param(key, str(value)) for key, value in _flatten(dump_params(params))]
    client.log_batch(run.info.run_id, params=flat)
    return run


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def track(workdir: Path, params: Params) -> str:
    """Log every stage folder of a work directory; returns the id of its MLflow run."""
    with tracked_run(params, workdir) as tracker:
        for stage in STAGES:
            tracker.log_stage(stage, workdir)
    return tracker.run_id


def main() -> int:
    """Log a finished work directory to MLflow."""
    parser = argparse.ArgumentParser(prog="python -m tasks.tracking", description=main.__doc__)
    parser.add_argument("--workdir", type=Path, default=Path("work"))
    parser.add_argument("--config", default=None, help="parameters in YAML, such as params.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    options = parser.parse_args()
    try:
        params = load_params(options.config, options.set)
        run_id = track(options.workdir, params)
    except InputError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 2
    if run_id:
        print(f"logged {options.workdir} to {params.tracking.uri} as run {run_id}")
    else:
        print(f"nothing was logged: tracking.uri is null; give an address to log {options.workdir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
