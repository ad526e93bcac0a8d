"""What `make server` installs: deployments of flows that exist, and an automation for zombies."""

import importlib
import inspect
import tomllib
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from prefect.events.schemas.automations import Posture

from flows.automations import BEAT, crash_zombies
from flows.server import POOL
from mipp.config import load_params
from tasks.titles import run_title

ROOT = Path(__file__).parents[2]
FILE = yaml.safe_load((ROOT / "prefect.yaml").read_text())
DEPLOYMENTS = {deployment["name"]: deployment for deployment in FILE["deployments"]}


def test_deployments_are_those_that_are_promised():
    assert list(DEPLOYMENTS) == ["prune", "sweep", "nightly-smoke"]


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_entrypoint_is_a_flow_that_takes_the_parameters(name):
    file, _, function = DEPLOYMENTS[name]["entrypoint"].partition(":")
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    known = inspect.signature(getattr(module, function).fn).parameters
    assert DEPLOYMENTS[name].get("parameters", {}).keys() <= known.keys()
    assert DEPLOYMENTS[name]["work_pool"]["name"] == POOL


def test_nightly_parameters_are_valid_and_scheduled():
    deployment = DEPLOYMENTS["nightly-smoke"]
    params = load_params(overrides=deployment["parameters"]["overrides"])
    assert params.tracking.experiment == "nightly-smoke"
    assert [schedule["cron"] for schedule in deployment["schedules"]] == ["0 3 * * *"]


def test_automation_crashes_a_run_that_misses_three_heartbeats():
    settings = tomllib.loads((ROOT / "prefect.toml").read_text())
    automation = crash_zombies()
    trigger = automation.trigger
    assert trigger.posture == Posture.Proactive
    assert trigger.after == {BEAT}
    assert trigger.within > timedelta(seconds=3 * settings["flows"]["heartbeat_frequency"])
    assert {f"prefect.flow-run.{end}" for end in ("Completed", "Failed", "Crashed")} < (
        trigger.expect
    )
    assert [action.state.value for action in automation.actions] == ["CRASHED"]


def test_title_says_what_is_pruned_how_and_where():
    parameters = {"workdir": "w", "config": None, "overrides": ["choose.budget=ratio:0.3"]}
    assert run_title(parameters) == "lenet5 on digits, mipp ratio:0.3, w"


def test_title_of_refused_parameters_is_the_folder():
    assert run_title({"workdir": "w", "overrides": ["choose.budget=often"]}) == "w"
