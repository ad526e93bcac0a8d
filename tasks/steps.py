"""Stages as Prefect tasks. A stage's manifest decides whether there is work: no task caches."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from mipp.config import Params
from mipp.disk.storage import Workdir
from mipp.stages import (
    STAGES,
    pending_pairs,
    pending_shards,
    preflight,
    run_pair,
    run_shard,
    run_stage,
)
from tasks import pages
from tasks.retrying import DELAYS, may_pass
from tasks.tracking import Tracker


def worth_retrying(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Prefect's question, answered by `may_pass`."""
    return may_pass(state.result(raise_on_failure=False))


step = partial(
    task,
    cache_policy=NO_CACHE,
    retries=len(DELAYS),
    retry_delay_seconds=list(DELAYS),
    retry_condition_fn=worth_retrying,
)


@step(task_run_name="check parameters")
def check(workdir: Workdir, params: Params) -> None:
    """Refuse what would fail later, before any work."""
    preflight(workdir, params)


@step(task_run_name="{stage}")
def run(stage: str, workdir: Workdir, params: Params, tracker: Tracker) -> None:
    """Run one stage unless its folder is up to date, and log that folder."""
    run_stage(STAGES[stage], workdir, params, partial(tracker.log_epoch))
    tracker.log_stage(stage, workdir.folder)


@step(task_run_name="list shards")
def list_shards(workdir: Workdir, params: Params) -> list[int]:
    """Shards of the calibration images that still have to be extracted."""
    return pending_shards(workdir, params)


@step(task_run_name="extract shard {shard}")
def extract(address: str, params: Params, shard: int) -> None:
    """Extract one shard, on any machine; its rows wait in the work directory."""
    run_shard(Workdir.open(address), params, shard)


@step(task_run_name="list pairs")
def list_pairs(workdir: Workdir, params: Params) -> list[str]:
    """Layer pairs that still have to be estimated."""
    return pending_pairs(workdir, params)


@step(task_run_name="estimate {pair}")
def estimate(address: str, params: Params, pair: str) -> None:
    """Estimate one layer pair, on any machine; its state waits in the work directory."""
    run_pair(Workdir.open(address), params, pair)


@step(task_run_name="link MLflow run")
def link(tracker: Tracker) -> None:
    """Show where MLflow keeps this run."""
    pages.show_tracking(tracker)


@step(task_run_name="publish report")
def publish(workdir: Path) -> None:
    """Show the result table and the report in Prefect."""
    pages.show_results(workdir)
