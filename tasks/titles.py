"""What a flow run is called: what it prunes, to what, and where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mipp.config import load_params
from mipp.errors import InputError


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
