"""Automations of a Prefect server: python -m flows.automations

A flow run whose process and worker died together says nothing any more and would stay `Running`
for ever. Here the server crashes a run whose heartbeat stops; `prefect flow-run retry ID` then
runs it again, and stages that are complete are not redone.
"""

from __future__ import annotations

import contextlib
from datetime import timedelta

from prefect.automations import Automation
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

NAME = "mipp: crash flow runs whose heartbeat stops"
BEAT = "prefect.flow-run.heartbeat"
ENDS = ("Completed", "Failed", "Cancelled", "Crashed", "TimedOut")


def crash_zombies(seconds: int = 100) -> Automation:
    """Crash a flow run that was alive and has given no sign of life for so many seconds.

    Parameters
    ----------
    seconds : longer than the period of the heartbeat (`heartbeat_frequency` in prefect.toml).
    """
    return Automation(
        name=NAME,
        description="Marks flow runs as crashed whose process and worker died together.",
        trigger=EventTrigger(
            after={BEAT},
            expect={BEAT, *(f"prefect.flow-run.{end}" for end in ENDS)},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=seconds),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, message=f"No heartbeat for {seconds} seconds."
            )
        ],
    )


def install(automation: Automation) -> str:
    """Make or replace an automation of the server at PREFECT_API_URL; returns its name."""
    with contextlib.suppress(ValueError):  # there is none yet
        Automation.read(name=automation.name).delete()
    return automation.create().name


def main() -> None:
    """Install what a server of mipp needs to notice deaths."""
    print(f"installed automation {install(crash_zombies())!r}")


if __name__ == "__main__":
    main()
