"""One MLflow run: reads stage folders and logs them, and epochs as they end."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mipp.disk.workdir import read_manifest
from mipp.errors import WorkdirError
from mipp.selection.selection import Selection
from mipp.training import EpochRecord
from tasks.tracking.client import client_of, metric, param

if TYPE_CHECKING:
    from mlflow import MlflowClient

ARTIFACTS = ("choose/nodes.parquet", "choose/selection.json", "report/report.md")
TRADE_OFF = {"lost": 100, "metric": 1}  # of each budget, and the factor to percent
FOLDERS = ("report/figures",)
PROGRAM = "evaluate/export/model.pt2"


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
        manifest = read_manifest(folder)
        if manifest is None:
            raise WorkdirError(
                f"work directory {workdir} has no stage {stage!r} to log.\nExpected "
                f"{folder}/manifest.json, got none; run `mipp {stage} --workdir {workdir}` "
                "first, or `mipp run` for all stages."
            )
        self._client().set_tag(self.run_id, f"mipp.{stage}", manifest.digest())
        self._log_files(stage, workdir)
        if stage == "choose":
            self._log_ratios(Selection.from_json((folder / "selection.json").read_text()))
            self._log_trade_off(folder / "trade_off.json")
        if (workdir / PROGRAM).exists() and PROGRAM.startswith(f"{stage}/"):
            from tasks.tracking.program import log_program

            digest = manifest.outputs[PROGRAM.removeprefix(f"{stage}/")]
            log_program(self._client(), self.run_id, workdir / PROGRAM, digest)

    def page(self) -> str | None:
        """Address of the run in a browser; None where no server is known that shows it.

        The server is the one that keeps the runs, or the one at `$MIPP_MLFLOW_UI`.
        """
        served = self.uri is not None and self.uri.startswith("http")
        server = self.uri if served else os.environ.get("MIPP_MLFLOW_UI")
        if not server:
            return None
        experiment = self._client().get_run(self.run_id).info.experiment_id
        return f"{server.rstrip('/')}/#/experiments/{experiment}/runs/{self.run_id}"

    def log_point(self, identity: Mapping[str, Any], file: Path) -> None:
        """Log a point of a sweep: what it is, and every number of its file if it has one."""
        if self.uri is None:
            return
        for key in ("method", "start", "variant", "budget"):
            self._client().set_tag(self.run_id, key, identity[key])
        if file.exists():
            row: dict[str, Any] = json.loads(file.read_text())
            measured = {key: value for key, value in row.items() if key not in identity}
            self._log_metrics({**measured, "ratio": row["units_removed"]})
            self._log_ratio(row["units_removed"])

    def log_sweep(self, root: Path) -> None:
        """Log the table and the report of a sweep."""
        if self.uri is None or not (root / "results.parquet").exists():
            return
        self._client().log_artifact(self.run_id, str(root / "results.parquet"))
        self._client().log_artifacts(self.run_id, str(root / "report"), "report")

    def _log_epochs(self, stage: str, records: list[dict[str, Any]]) -> None:
        if self.uri is None:
            return
        metrics = [
            metric(f"{stage}/{name}", float(value), 0, record["epoch"])
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
        metrics = [metric(name, float(value), now, 0) for name, value in numbers.items()]
        self._client().log_batch(self.run_id, metrics=metrics)
        for name, value in others.items():
            text = value if isinstance(value, str) else json.dumps(value)
            self._client().set_tag(self.run_id, name, text)

    def _log_ratios(self, selection: Selection) -> None:
        """Share of units removed, of the network (`ratio`) and of each group (`ratio/GROUP`).

        The first also as a parameter, which MLflow's charts group by; a parameter is for good.
        """
        counts = selection.counts()
        ratios = {
            f"ratio/{_spell(group)}": 1 - counts[group] / width
            for group, width in selection.width.items()
        }
        self._log_metrics({"ratio": selection.units_removed(), **ratios})
        self._log_ratio(selection.units_removed())

    def _log_trade_off(self, file: Path) -> None:
        """What budgets cost, over the percent of the MACs that stay."""
        if not file.exists():
            return
        client = self._client()
        for name, factor in TRADE_OFF.items():
            key = f"trade-off/{name}"
            known = {p.step: p.value for p in client.get_metric_history(self.run_id, key)}
            told = {
                round(100 * point["macs_share"]): factor * point[name]
                for point in json.loads(file.read_text())["points"]
                if point[name] is not None
            }
            changed = {step: value for step, value in told.items() if known.get(step) != value}
            now = int(time.time() * 1000)
            points = [metric(key, value, now, step) for step, value in changed.items()]
            client.log_batch(self.run_id, metrics=points)
        client.log_artifact(self.run_id, str(file), file.parent.name)

    def _log_ratio(self, share: float) -> None:
        if "ratio" not in self._client().get_run(self.run_id).data.params:
            self._client().log_batch(self.run_id, params=[param("ratio", f"{share:.2f}")])

    def _log_files(self, stage: str, workdir: Path) -> None:
        for file in (*ARTIFACTS, "report/report.html"):
            if file.startswith(f"{stage}/"):
                self._client().log_artifact(self.run_id, str(workdir / file), stage)
        for folder in FOLDERS:
            if folder.startswith(f"{stage}/") and (workdir / folder).is_dir():
                self._client().log_artifacts(self.run_id, str(workdir / folder), folder)

    def _client(self) -> MlflowClient:
        return client_of(self.uri)


def _spell(group: str) -> str:
    """A group's name with what MLflow allows in the name of a metric."""
    return re.sub(r"[^\w\-. /:]", "_", group)
