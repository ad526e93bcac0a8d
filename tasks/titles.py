"""What a flow run is called, and the tag of its tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mipp.config import Params, load_params
from mipp.device import resolve_device
from mipp.errors import InputError


def limiting_tags(params: Params) -> tuple[str, ...]:
    """Tags of a run's tasks, by which a Prefect server limits how many run at once.

    `gpu`, or none: every task asks the server about each of its tags before it runs, and an
    answer of "busy, try again" costs seconds.
    """
    return ("gpu",) if resolve_device(params.compute.device).type == "cuda" else ()


def run_title(parameters: Mapping[str, Any]) -> str:
    """Name of a run of the flow `pipeline`, from its parameters.

    Parameters that the flow is about to refuse, with an error that says why, give the folder.
    """
    workdir = parameters.get("workdir", "work")
    try:
        params = load_params(parameters.get("config"), parameters.get("overrides") or ())
    except InputError:
        return str(workdir)
    choose = params.choose
    return f"{params.model.name} on {params.data.name}, {choose.method} {choose.budget}, {workdir}"
