"""Stages as Prefect tasks. A stage's manifest decides whether there is work: no task caches."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from mipp.config import Params
from mipp.stages import STAGES, pending_pairs, preflight, run_stage
from mipp.stages.estimate import estimate_pair
from mipp.storage import open_workdir
from tasks.tracking import Tracker


@task(cache_policy=NO_CACHE, task_run_name="check parameters")
def check(workdir: Path, params: Params) -> None:
    """Refuse what would fail later, before any work."""
    preflight(workdir, params)


@task(cache_policy=NO_CACHE, task_run_name="{stage}")
def run(stage: str, workdir: Path, params: Params, tracker: Tracker) -> None:
    """Run one stage unless its folder is up to date, and log that folder."""
    run_stage(STAGES[stage], workdir, params, partial(tracker.log_epoch))
    tracker.log_stage(stage, workdir)


@task(cache_policy=NO_CACHE, task_run_name="list pairs")
def list_pairs(workdir: Path, params: Params) -> list[str]:
    """Layer pairs that still have to be estimated."""
    return pending_pairs(workdir, params)


@task(cache_policy=NO_CACHE, task_run_name="estimate {pair}", retries=1)
def estimate(address: str, params: Params, pair: str) -> None:
    """Estimate one layer pair, on any machine; its state waits in the work directory."""
    estimate_pair(open_workdir(address), params, pair)


@task(cache_policy=NO_CACHE, task_run_name="publish report")
def publish(workdir: Path) -> None:
    """Show the report's tables in Prefect."""
    text = (workdir / "report/report.md").read_text()
    create_markdown_artifact(text, key="mipp-report", description=str(workdir))
