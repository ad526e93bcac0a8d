"""The stages as a DVC pipeline: what `dvc.yaml` says of parameters, sources, inputs and outputs.

A stage's `outputs.json` names the content of all its files, so the next stage depends on it alone:
not on the manifest, which also says what code they were made by, nor on `timing.json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mipp.config import Params, dump_params, load_params
from mipp.config.yaml_values import read_yaml
from mipp.disk.workdir import MANIFEST, OUTPUTS, TIMING
from mipp.errors import ConfigError
from mipp.sources import files_of
from mipp.stages.pipeline import STAGES
from mipp.stages.stage import Stage, stage_modules

HEAD = "# The stages of a run, one DVC stage each; written by `mipp dvc`."
MEASURED = (MANIFEST, OUTPUTS, TIMING, "export")  # outputs of `evaluate` beside its metrics
METRICS = "evaluate/metrics.json"
CURVES = {"train": "Training", "finetune": "Fine-tuning"}
TRACKING = "tasks.tracking"


def dvc_pipeline(workdir: str, config: str, inputs: Sequence[str]) -> str:
    """Text of a `dvc.yaml` for the current folder.

    Of the built-in criteria, networks and data sets all are followed, whichever is named; of yours
    those that are named.

    Parameters
    ----------
    workdir : of the stages' commands.
    config : the file of all parameters, too.
    inputs : files and folders that hold data or weights.

    Raises
    ------
    ConfigError : the file does not spell out every parameter.
    """
    params = load_params(config)
    _require_all(config)
    lines = [HEAD, "stages:"]
    for name, stage in STAGES.items():
        lines += _stage(name, _command(f"mipp {name}", workdir, config))
        lines += _list("params", (*stage.params, *stage.tries))
        lines += _list("deps", _dependencies(stage, params, workdir, inputs))
        lines += _outputs(name, workdir)
    if find_spec("tasks") and find_spec("mlflow"):
        lines += _stage("track", _command(TRACKING, workdir, config))
        read = STAGES["report"].reads
        made = [*_made(read, workdir), *_made(("report",), workdir)]
        lines += _list("params", ("tracking",))
        lines += _list("deps", [*_sources([f"{TRACKING}.__main__"]), *made])
    return "\n".join([*lines, *_plots(workdir)]) + "\n"


def _require_all(config: str) -> None:
    stated = dict(_keys(read_yaml(Path(config))))
    for key, _ in _keys(dump_params(Params())):
        if key not in stated:
            raise ConfigError(
                f"parameter file {config} does not spell out {key}.\nExpected every parameter, of "
                "which DVC sees only those in the file, got the default; write it with "
                f"`mipp params --config {config}`, which prints them all."
            )


def _keys(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for section, value in values.items():
        yield section, value
        if isinstance(value, dict):
            yield from ((f"{section}.{key}", inner) for key, inner in value.items())


def _stage(name: str, command: str) -> list[str]:
    return [f"  {name}:", f"    cmd: {command}"]


def _command(module: str, workdir: str, config: str) -> str:
    return f"python -m {module} --workdir {workdir} --config {config}"


def _list(key: str, items: Iterable[str]) -> list[str]:
    return [f"    {key}:", *(f"      - {item}" for item in items)]


def _dependencies(
    stage: Stage, params: Params, workdir: str, inputs: Sequence[str]
) -> Iterator[str]:
    if "data" in stage.params:
        yield from inputs
    built_in = [table.module(row) for table in stage.names.values() for row in table]
    yield from _sources([*stage_modules(stage, params), *(m for m in built_in if m)])
    yield from _made(stage.reads, workdir)


def _made(stages: Iterable[str], workdir: str) -> list[str]:
    """What stands for the outputs of earlier stages; measured times are no output."""
    files = {stage: METRICS if stage == "evaluate" else f"{stage}/{OUTPUTS}" for stage in stages}
    return [f"{workdir}/{file}" for file in files.values()]


def _outputs(name: str, workdir: str) -> list[str]:
    if name != "evaluate":
        return _list("outs", [f"{workdir}/{name}"])
    return [
        *_list("outs", [f"{workdir}/{name}/{part}" for part in MEASURED]),
        *_list("metrics", [f"{workdir}/{METRICS}"]),
    ]


def _plots(workdir: str) -> list[str]:
    lines = ["", "plots:"]
    for stage, title in CURVES.items():
        lines += [
            f"  - {workdir}/{stage}/history.json:",
            "      x: epoch",
            "      y:",
            "        - train_loss",
            "        - validation_loss",
            f"      title: {title}",
        ]
    return [*lines, f"  - {workdir}/report/figures"]


def _sources(modules: Sequence[str]) -> list[str]:
    """Sources below this folder, a folder in the place of all that it holds.

    An `__init__` that hands names on is in no closure; a folder that is whole has it too.
    """
    here = Path.cwd().resolve()
    files = {path.relative_to(here) for path in files_of(modules) if path.is_relative_to(here)}
    whole = {
        folder
        for folder in {folder for file in files for folder in file.parents[:-1]}
        if {p for p in folder.rglob("*.py") if p.name != "__init__.py"} <= files
    }
    highest = ([f for f in file.parents if f in whole] for file in files)
    places = {found[-1] if found else file for file, found in zip(files, highest, strict=True)}
    return sorted(place.as_posix() for place in places)
