"""Artifacts that Prefect shows: the results of a run, its MLflow page, how far it is, why not."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol
from uuid import UUID

from prefect.artifacts import (
    Artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from mipp.report.table import HEADER, result_rows
from mipp.stages import epochs_after_pruning
from tasks.tracking import Tracker


class Future(Protocol):
    """Work that goes on elsewhere, whichever runner does it."""

    def wait(self) -> None:
        """Return when it has ended, well or not."""


def show_results(workdir: Path) -> None:
    """The result table and the report."""
    metrics = json.loads((workdir / "evaluate/metrics.json").read_text())
    rows = result_rows(metrics, epochs_after_pruning(workdir))
    table = [dict(zip(HEADER, row, strict=True)) for row in rows]
    create_table_artifact(table, key="mipp-result", description=f"Networks of {workdir}")
    text = (workdir / "report/report.md").read_text()
    create_markdown_artifact(text, key="mipp-report", description=str(workdir))


def show_tracking(tracker: Tracker) -> None:
    """A link to the MLflow run; where no server shows it, the command that starts one."""
    if tracker.uri is None:
        return
    page = tracker.page()
    if page:
        create_link_artifact(page, "MLflow run", key="mipp-mlflow")
    else:
        command = f"mlflow ui --backend-store-uri {tracker.uri}"
        text = f"MLflow run `{tracker.run_id}`; to see it, start `{command}`."
        create_markdown_artifact(text, key="mipp-mlflow")


def follow(futures: Iterable[Future], what: str, key: str) -> None:
    """Wait for all parts of a stage and show how many are done.

    A part that failed is left to the stage, which does it again or says why it cannot.

    Parameters
    ----------
    what : what the parts are, such as `layer pairs`.
    key : of the artifact.
    """
    waiting = list(futures)
    if not waiting:
        return
    words = f"{len(waiting)} {what}"
    artifact = create_progress_artifact(0.0, key=key, description=words)
    assert isinstance(artifact, UUID)
    for done, future in enumerate(waiting, 1):
        future.wait()
        update_progress_artifact(artifact, 100 * done / len(waiting))


def show_failure(flow_run_id: UUID, state: str, reason: str) -> None:
    """Why a flow run did not complete."""
    said = reason.replace("```", "'''")  # which would end the block of code
    text = f"# {state}\n\n```\n{said}\n```\n\nRun it again: stages that are complete are kept."
    Artifact(type="markdown", key="mipp-failure", data=text, flow_run_id=flow_run_id).create()
