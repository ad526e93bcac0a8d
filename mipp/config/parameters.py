"""Parameters of a run from files and command lines, and the words of their errors."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mipp.config.no_effect import idle_settings
from mipp.config.sections import (
    IDLE_TAKEN,
    ChooseConfig,
    ComputeConfig,
    EstimateConfig,
    Params,
    Section,
)
from mipp.config.yaml_values import apply_override, read_yaml, write_yaml
from mipp.errors import BudgetError, ConfigError, as_written, did_you_mean
from mipp.settings import Distill, Gaussian, Reconstruction, Refit

Parsed = TypeVar("Parsed", bound=Section)

WRITTEN: Mapping[str, str] = {
    **{name: f"choose.{name}" for name in ChooseConfig.model_fields},
    **{
        f"{kind.PREFIX}{name}": f"estimate.{name}"
        for kind in (Gaussian, Reconstruction)
        for name in EstimateConfig.model_fields
    },
    **{f"{Refit.PREFIX}{name}": f"prune.{name}" for name in ("ridge", "rows")},
    **{f"{Distill.PREFIX}{name}": f"prune.{name}" for name in ("steps", "views")},
    "rows": "extract.rows",
    "Mipp.rows": "extract.rows",
    "Mipp.rows or images": "extract.rows or data.calibration",
    "images": "data.calibration",
    "validation": "data.validation",
    "latency_batch": "evaluate.latency_batch",
    "narrow_heads": "model.narrow_heads",
    "repair": "prune.repair",
    "kinds": "evaluate.export",
}  # where the core's options stand in a configuration, see `as_written`

CHANGE_NO_RESULT = ("data.workers", "extract.shards")


def load_params(
    path: str | Path | None = None,
    overrides: Sequence[str] = (),
    deciders: Collection[str] = (),
) -> Params:
    """Parameters from a YAML file (defaults without one) with `section.key=value` overrides.

    Parameters
    ----------
    deciders : settings that one of these leaves without effect are dropped, not refused; for
        points of a grid, which have one file in common.

    Raises
    ------
    ConfigError : the file is missing or no YAML mapping; a key is unknown; a value has the
        wrong type or is out of range, or no effect.
    """
    values = read_yaml(Path(path)) if path is not None else {}
    for override in overrides:
        apply_override(values, override)
    source = str(path) if path is not None else "the defaults"
    taken = parse_section(Params, values, source, IDLE_TAKEN) if deciders else Params()
    for field, decider, _ in idle_settings(taken):
        section, _, name = field.partition(".")
        if decider in deciders:
            del values[section][name]
    return parse_section(Params, values, source)


def require_one_machine(compute: ComputeConfig, instead: str = "flows.pipeline") -> None:
    """Refuse a cluster where only this machine works.

    Parameters
    ----------
    instead : module that does the same on a cluster.

    Raises
    ------
    ConfigError : compute.runner=ray.
    """
    if compute.runner == "ray":
        raise ConfigError(
            "compute.runner=ray has no effect here: `mipp` works on one machine.\nExpected "
            f"threads or serial, got ray; run `python -m {instead}` with the same parameters, or "
            "set compute.runner=threads."
        )


def dump_params(params: Section) -> dict[str, Any]:
    """Plain mapping of a section or of all parameters, ready for JSON or YAML."""
    return params.model_dump(mode="json")


def dump_results(params: Params) -> dict[str, Any]:
    """The same of all parameters, but for those that change no result, only how it is made."""
    values = dump_params(params)
    for field in CHANGE_NO_RESULT:
        section, _, name = field.partition(".")
        del values[section][name]
    return values


def write_params(params: Params, path: Path) -> None:
    """Write all parameters as YAML that `load_params` reads back equal."""
    write_yaml(dump_params(params), path)


def parse_params(values: Mapping[str, Any]) -> Params:
    """Parameters from the mapping that `dump_params` gave."""
    return parse_section(Params, dict(values), "the given mapping")


def parse_section(
    kind: type[Parsed], values: Mapping[str, Any], source: str, context: object = None
) -> Parsed:
    """A section, or any other group of parameters, from a mapping.

    Parameters
    ----------
    source : where the mapping is from, for the error.
    context : `IDLE_TAKEN` takes settings without effect.

    Raises
    ------
    ConfigError, BudgetError : a key is unknown; a value has the wrong type or is out of range.
    """
    try:
        with as_written(WRITTEN):
            return kind.model_validate(values, context=context)
    except BudgetError:
        raise
    except ValidationError as error:
        lines = [_explain(kind, dict(detail)) for detail in error.errors()]
        raise ConfigError(f"parameters from {source} are refused.\n" + "\n".join(lines)) from error


def _explain(kind: type[BaseModel], detail: dict[str, Any]) -> str:
    location = [str(part) for part in detail["loc"]]
    where = ".".join(location)
    if detail["type"] == "extra_forbidden":
        fields: type[BaseModel] = kind
        for part in location[:-1]:
            annotation = fields.model_fields[part].annotation
            assert isinstance(annotation, type)
            fields = annotation
        hint = did_you_mean(location[-1], fields.model_fields)
        return f"{where}: expected a known key, got {location[-1]!r}; {hint}."
    message = detail["msg"]
    return (
        f"{where}: expected {message[0].lower()}{message[1:]}, got {detail['input']!r}; "
        "see the comments in params.yaml."
    )
