"""Which MLflow run belongs to what: found again by its parameters, or made, under a parent."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from mipp.config import Params, TrackingConfig, dump_params
from mipp.config.yaml_values import dotted
from mipp.disk.manifest import fingerprint
from mipp.errors import ConfigError
from tasks.tracking.client import client_of, param, refusal
from tasks.tracking.origin import origin_tags
from tasks.tracking.tracker import Tracker

if TYPE_CHECKING:
    from mlflow import MlflowClient

PARENT = "mlflow.parentRunId"
RUNNING, FAILED = "RUNNING", "FAILED"
SQLITE = "sqlite:///"
LONGEST = 5000  # characters of a tag
AWAY = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")


@contextmanager
def tracked_run(params: Params, address: str, parent: str | None = None) -> Iterator[Tracker]:
    """A tracker whose run ends with the block: finished, or failed when the block raises.

    The same parameters over the same work directory continue the same run, so that a killed
    flow leaves one run, not two.

    Parameters
    ----------
    address : of the work directory, or what else the run is about.
    parent : id of the sweep's run (`tracked_sweep`) that this one is a point of.
    """
    if params.tracking.uri is None:
        yield Tracker(None)
        return
    choose = params.choose
    tags = {
        "mipp.key": _key(params, address),
        "method": choose.method,
        "budget": str(choose.budget),
        "model": params.model.name,
        "data": params.data.name,
        "seed": str(params.seed),
        **origin_tags(Path.cwd()),
    } | ({PARENT: parent} if parent else {})
    title = f"{params.model.name} {params.data.name} {choose.method} {choose.budget}"
    flat = dict(dotted(dump_params(params)))
    where = params.tracking.uri, params.tracking.experiment
    with _open(*where, f"{title} seed {params.seed}", tags, flat) as tracker:
        yield tracker


@contextmanager
def tracked_sweep(name: str, tracking: TrackingConfig, address: str) -> Iterator[Tracker]:
    """A tracker of a parent run; `tracked_run(..., parent=tracker.run_id)` opens its children.

    The same name over the same work directory continues the same sweep.
    """
    if tracking.uri is None:
        yield Tracker(None)
        return
    tags = {"mipp.key": fingerprint(["sweep", name, address]), "sweep": name}
    with _open(tracking.uri, tracking.experiment, f"sweep {name}", tags, {}) as tracker:
        yield tracker


def fail_run(params: Params, address: str, reason: str) -> None:
    """Say in the run of a work directory why it failed, and end it; without a run do nothing.

    For a process that died, which could not do so itself.
    """
    if params.tracking.uri is None:
        return
    client = client_of(params.tracking.uri)
    experiment = client.get_experiment_by_name(params.tracking.experiment)
    wanted = f"tags.`mipp.key` = '{_key(params, address)}'"
    for run in client.search_runs([experiment.experiment_id], wanted) if experiment else ():
        client.set_tag(run.info.run_id, "failure", reason[:LONGEST])
        client.set_terminated(run.info.run_id, FAILED)


def is_unreachable(error: BaseException) -> bool:
    """Whether MLflow's store is busy or away, and may be back a little later."""
    known = sys.modules.get("mlflow.exceptions")  # without it no error is mlflow's
    return (
        known is not None and isinstance(error, known.MlflowException) and error.error_code in AWAY
    )


def _key(params: Params, address: str) -> str:
    """What the same run has again when it is continued."""
    return fingerprint([dump_params(params), address])


@contextmanager
def _open(
    uri: str, experiment: str, name: str, tags: Mapping[str, str], params: Mapping[str, Any]
) -> Iterator[Tracker]:
    try:
        with _alone(uri):
            client = client_of(uri)
            run_id = _find_or_create(client, experiment, name, tags, params)
    except refusal() as error:
        raise ConfigError(
            f"tracking.uri: MLflow cannot keep its runs at {uri}.\nExpected an address such as "
            f"sqlite:///mlflow.db or that of a server; MLflow says: {error}"
        ) from error
    client.update_run(run_id, RUNNING)
    client.set_tag(run_id, "failure", "")  # of an earlier try
    try:
        yield Tracker(uri, run_id)
    except BaseException:
        client.set_terminated(run_id, FAILED)
        raise
    client.set_terminated(run_id)


def _alone(uri: str) -> FileLock | nullcontext[None]:
    """Only one process at a time makes a database, or a run in it; a server sees to it itself."""
    if not uri.startswith(SQLITE):
        return nullcontext()
    return FileLock(f"{uri.removeprefix(SQLITE)}.lock")


def _find_or_create(
    client: MlflowClient,
    experiment: str,
    name: str,
    tags: Mapping[str, str],
    params: Mapping[str, Any],
) -> str:
    """Id of the run with these tags' key; its tags are brought up to date."""
    number = _experiment(client, experiment)
    runs = client.search_runs([number], f"tags.`mipp.key` = '{tags['mipp.key']}'", max_results=1)
    if runs:
        for key, value in tags.items():
            client.set_tag(runs[0].info.run_id, key, value)
        return str(runs[0].info.run_id)
    run_id = str(client.create_run(number, tags=dict(tags), run_name=name).info.run_id)
    client.log_batch(run_id, params=[param(key, str(value)) for key, value in params.items()])
    return run_id


def _experiment(client: MlflowClient, name: str) -> str:
    """Id of an experiment, which another process may make at the same moment."""
    found = client.get_experiment_by_name(name)
    if found:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name))
    except refusal() as error:
        made = client.get_experiment_by_name(name)
        if made is None:
            raise error
        return str(made.experiment_id)
