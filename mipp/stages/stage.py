"""What a stage is: parameters it depends on, stages it reads, and a body that fills a folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

from mipp.config import WRITTEN, Params, dump_results
from mipp.data.content import content_of
from mipp.disk.manifest import MadeFrom, Manifest, file_digest
from mipp.disk.storage import Workdir
from mipp.disk.workdir import (
    changed_files,
    is_current,
    read_manifest,
    stage_folder,
    versions,
)
from mipp.errors import WorkdirError, as_written
from mipp.names import Table
from mipp.needed_stages import is_needed
from mipp.process.ranks import Ranks
from mipp.sources import code_hash
from mipp.stages.context import Context, OnEpoch
from mipp.stages.files import given_up_if_damaged
from mipp.stages.launch import job_of, launch

logger = logging.getLogger(__name__)


def _never(params: Params) -> bool:
    return False


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline.

    `params` are dotted keys or sections that its outputs depend on, with the section `data` the
    content of the set; `reads` are the stages it reads, `may_read` those it reads if they are
    there; `files` are keys of parameters that name a file whose content counts; `names` those that
    name a thing whose code counts, beside all that the body's module imports; `tries` are
    parameters that count too where networks are tried, `rounds` where they are pruned in several;
    `shared` says whether `compute.devices` processes run the body between them.
    """

    name: str
    body: Callable[[Context], None]
    params: tuple[str, ...]
    reads: tuple[str, ...] = ()
    may_read: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    names: Mapping[str, Table[Any]] = field(default_factory=dict)
    tries: tuple[str, ...] = ()
    rounds: tuple[str, ...] = ()
    shared: Callable[[Params], bool] = _never


@as_written(WRITTEN)
def run_stage(
    stage: Stage, workdir: Workdir, params: Params, on_epoch: OnEpoch | None = None
) -> Manifest:
    """Run a stage unless its folder is there, complete and made from the same things.

    One that the method does not need leaves a folder with nothing but a manifest, or what is there.

    Raises
    ------
    WorkdirError : a stage that it reads is missing or was made with other parameters.
    """
    folder = workdir.stage(stage.name)
    manifest = read_manifest(folder)
    if not is_needed(stage.name, params.choose.method):
        logger.info("%s: not needed for %s", stage.name, params.choose.method)
        if manifest is None:
            with stage_folder(workdir, _made_from_nothing(stage, params)):
                pass
    elif manifest is not None and is_current(folder, manifest, made_from(stage, workdir, params)):
        logger.info("%s: up to date", stage.name)
    else:
        logger.info("%s: running", stage.name)
        made = made_from(stage, workdir, params)
        with stage_folder(workdir, made) as out, given_up_if_damaged(workdir):
            _run_body(stage, Context(workdir, out, params, made.key(), on_epoch))
    workdir.keep(stage.name)
    done = read_manifest(folder)
    assert done is not None
    return done


def _run_body(stage: Stage, context: Context) -> None:
    """The body, by several processes where it is shared and they are asked for."""
    ranks = Ranks.here()
    several = context.params.compute.devices > 1 and stage.shared(context.params)
    if several and ranks.size == 1:
        launch(stage.name, context)
        return
    if several:
        ranks.told(job_of(stage.name, context))
    stage.body(context)


def needs_run(stage: Stage, workdir: Workdir, params: Params) -> bool:
    """Whether `run_stage` would do any work."""
    folder = workdir.stage(stage.name)
    return is_needed(stage.name, params.choose.method) and not is_current(
        folder, read_manifest(folder), made_from(stage, workdir, params)
    )


def require_current(stage: Stage, workdir: Workdir, params: Params) -> None:
    """Refuse to build on a stage made with other parameters than these.

    Raises
    ------
    WorkdirError : the stage is missing or out of date; names it and the command to run.
    """
    if needs_run(stage, workdir, params):
        folder = workdir.folder / stage.name
        manifest = read_manifest(folder)
        changed = changed_files(folder, manifest) if manifest else []
        state = "is missing" if manifest is None else "is out of date"
        if changed:
            state += f" ({changed[0]} was changed since)"
        raise WorkdirError(
            f"stage {stage.name!r} {state} in work directory {workdir}.\nExpected "
            f"{folder}/manifest.json made with the same parameters as now; run "
            f"`mipp {stage.name} --workdir {workdir}` first, or `mipp run` for all stages."
        )


def made_from(stage: Stage, workdir: Workdir, params: Params) -> MadeFrom:
    """What the stage's outputs depend on, under these parameters and in this work directory.

    Raises
    ------
    WorkdirError : a stage that it reads is missing.
    """
    return MadeFrom(
        stage.name,
        stage_params(stage, params),
        _inputs(stage, workdir, params.choose.method),
        stage_code(stage, params),
        versions(),
    )


def _made_from_nothing(stage: Stage, params: Params) -> MadeFrom:
    return MadeFrom(stage.name, {"choose.method": params.choose.method}, {}, "", versions())


def stage_code(stage: Stage, params: Params) -> str:
    """SHA-256 of the sources that a stage's outputs depend on."""
    return code_hash(tuple(stage_modules(stage, params)))


def stage_modules(stage: Stage, params: Params) -> list[str]:
    """The modules of a stage's body and of the things that its parameters name."""
    idle = () if params.finetune.rounds > 1 else stage.rounds
    counted = {k: t for k, t in stage.names.items() if k.partition(".")[0] not in idle}
    named = [table.module(attrgetter(key)(params)) for key, table in counted.items()]
    return [stage.body.__module__, *(module for module in named if module)]


def _inputs(stage: Stage, workdir: Workdir, method: str) -> dict[str, str]:
    digests = {}
    for name in (name for name in stage.reads if is_needed(name, method)):
        folder = workdir.stage(name)
        manifest = read_manifest(folder)
        if manifest is None:
            raise WorkdirError(
                f"stage {stage.name!r} cannot start: work directory {workdir} has no stage "
                f"{name!r}.\nExpected {folder}/manifest.json, got none; run `mipp {name} "
                f"--workdir {workdir}` first, or `mipp run` for all stages."
            )
        digests[name] = manifest.digest()
    found = {name: read_manifest(workdir.stage(name)) for name in stage.may_read}
    return digests | {name: manifest.digest() for name, manifest in found.items() if manifest}


def stage_params(stage: Stage, params: Params) -> dict[str, Any]:
    """The parameters that a stage's outputs depend on, by dotted key."""
    everything = dump_results(params)
    chosen = {key: _lookup(everything, key) for key in declared(stage, params)}
    for key in stage.files:
        path = _lookup(everything, key)
        if path and Path(path).is_file():
            chosen[f"sha256({key})"] = file_digest(Path(path))
    if "data" in stage.params and (content := content_of(params.data)):
        chosen["sha256(data)"] = content
    return chosen


def declared(stage: Stage, params: Params) -> tuple[str, ...]:
    """Dotted keys or sections that a stage's outputs depend on under these parameters."""
    tries = stage.tries if params.choose.tries_networks else ()
    return (*stage.params, *tries, *(stage.rounds if params.finetune.rounds > 1 else ()))


def _lookup(values: Mapping[str, Any], key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values
