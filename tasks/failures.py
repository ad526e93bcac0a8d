"""What remains of a flow that fails, is cancelled or dies: a tag in MLflow and an artifact."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from mipp.config import load_params
from mipp.disk.storage import Workdir
from mipp.errors import InputError
from tasks.pages import show_failure
from tasks.tracking import fail_run

HOURS = 24.0  # that a run may take where it is given no other limit
logger = logging.getLogger("mipp.flow")


def record_failure(
    flow_run_id: UUID, parameters: Mapping[str, Any], state: str, reason: str
) -> None:
    """Record why a run of the flow `pipeline` ended; refused parameters have no MLflow run."""
    if state == "TimedOut":  # of the inner flow, whose limit Prefect does not tell the outer one
        reason = f"stopped after {parameters.get('hours', HOURS):g} hours (parameter `hours`)"
    logger.error("%s: %s", state, reason)
    show_failure(flow_run_id, state, reason)
    try:
        params = load_params(parameters.get("config"), parameters.get("overrides") or ())
        workdir = Workdir.open(parameters.get("workdir", "work"))
    except InputError:
        return
    fail_run(params, workdir.address, f"{state}: {reason}")
