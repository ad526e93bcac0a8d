"""From a clean clone: server, pool and worker up, a deployment run to its end, and down again."""

import json
import os
import subprocess
import sys
import time
import urllib.request

import psutil
import pytest
from mlflow import MlflowClient
from processes import ROOT, environment, free_port

from mipp.disk.workdir import read_manifest
from mipp.stages import STAGES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
]
SECONDS = 500
THEIRS = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, classes, channels):
        layers = (nn.Conv2d(channels, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU())
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))
"""


class Site:
    """A clone with its services, and one run of deployment `prune` in it."""

    def __init__(self, folder):
        self.clone = folder / "clone"
        command = ["git", "clone", "--quiet", str(ROOT), str(self.clone)]
        subprocess.run(command, check=True, capture_output=True)
        self.port, self.mlflow_port = free_port(), free_port()
        self.environment = environment(folder / "home", PYTHONPATH=self.python_path())
        self.environment["PREFECT_API_URL"] = f"http://127.0.0.1:{self.port}/api"

    def python_path(self):
        """The clone first; packages laid over the environment stay visible."""
        return os.pathsep.join([str(self.clone), os.environ.get("PYTHONPATH", "")])

    def call(self, *arguments):
        command = [sys.executable, "-m", *map(str, arguments)]
        options = {"cwd": self.clone, "env": self.environment, "stdin": subprocess.DEVNULL}
        return subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=SECONDS, **options
        )

    def serve(self, action):
        ports = ("--port", self.port, "--mlflow-port", self.mlflow_port)
        return self.call("flows.server", action, *ports, "--config", "params.yaml")

    def processes(self):
        notes = [json.loads(file.read_text()) for file in (self.clone / ".server").glob("*.json")]
        return [psutil.Process(note["pid"]) for note in notes]

    def ask(self, path, body):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def site(folder):
    site = Site(folder)
    site.started = site.serve("start")
    try:
        assert site.started.returncode == 0, site.started.stderr
        site.alive = site.processes()
        overrides = json.dumps(["choose.budget=macs:0.5"])
        site.run = site.call(
            "prefect", "deployment", "run", "pipeline/prune", "-p", f"overrides={overrides}",
            "--watch",
        )  # fmt: skip
        yield site
    finally:
        site.serve("stop")


def test_start_prints_the_addresses(site):
    for port in (site.port, site.mlflow_port):
        assert f"http://127.0.0.1:{port}" in site.started.stdout
        with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=30) as page:
            assert page.status == 200


def test_deployment_run_completes(site):
    assert site.run.returncode == 0, site.run.stdout + site.run.stderr
    assert "finished successfully in 'Completed'" in site.run.stdout
    names = [run["name"] for run in site.ask("flow_runs/filter", {})]
    assert "lenet5 on digits, mipp macs:0.5, work" in names
    assert [s for s in STAGES if read_manifest(site.clone / "work" / s) is None] == []


def test_mlflow_run_exists_and_keeps_to_the_budget(site):
    client = MlflowClient(f"sqlite:///{site.clone / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("mipp").experiment_id
    (run,) = client.search_runs([experiment])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["macs"] <= 0.5 * run.data.metrics["macs_dense"]
    head = ["git", "rev-parse", "HEAD"]
    done = subprocess.run(head, cwd=site.clone, capture_output=True, text=True, check=True)
    assert run.data.tags["commit"] == done.stdout.strip()


def test_artifacts_and_report_exist(site):
    found = {a["key"]: a for a in site.ask("artifacts/filter", {}) if a["key"]}
    assert found.keys() == {"mipp-result", "mipp-report", "mipp-mlflow", "mipp-pairs"}
    assert found["mipp-pairs"]["data"] == 100
    assert f"http://127.0.0.1:{site.mlflow_port}/#/experiments/" in found["mipp-mlflow"]["data"]
    assert found["mipp-report"]["data"] == (site.clone / "work/report/report.md").read_text()
    assert (site.clone / "work/report/report.html").stat().st_size > 10_000


def test_server_has_the_schedule_the_limit_and_the_automation(site):
    deployments = {d["name"]: d for d in site.ask("deployments/filter", {})}
    assert deployments.keys() == {"prune", "sweep", "nightly-smoke"}
    assert deployments["nightly-smoke"]["schedules"][0]["schedule"]["cron"] == "0 3 * * *"
    waiting = {"state": {"type": {"any_": ["SCHEDULED"]}}}
    assert site.ask("flow_runs/count", {"flow_runs": waiting}) >= 1
    (limit,) = site.ask("concurrency_limits/filter", {})
    assert limit["tag"] == "gpu"
    assert [a["enabled"] for a in site.ask("automations/filter", {})] == [True]


def test_deployment_runs_a_network_of_somebodys_module(site):
    """It lies where the worker starts; nothing but its address is given."""
    (site.clone / "theirs.py").write_text(THEIRS)
    overrides = ["model.name=theirs:Net", "train.epochs=1", "finetune.epochs=0"]
    done = site.call(
        "prefect", "deployment", "run", "pipeline/prune", "-p", 'workdir="theirs"', "-p",
        f"overrides={json.dumps(overrides)}", "--watch",
    )  # fmt: skip
    assert "finished successfully in 'Completed'" in done.stdout, done.stdout + done.stderr
    assert [s for s in STAGES if read_manifest(site.clone / "theirs" / s) is None] == []
    assert "theirs:Net" in (site.clone / "theirs/report/report.md").read_text()


def test_dead_flow_is_recorded_in_mlflow_and_as_an_artifact(site):
    started = site.call(
        "prefect", "deployment", "run", "pipeline/prune", "-p", 'workdir="dying"', "-p",
        'overrides=["train.epochs=500", "tracking.experiment=dying"]',
    )  # fmt: skip
    assert started.returncode == 0, started.stderr
    flow = wait_until(lambda: flow_over(site.clone / "dying"))
    flow.kill()
    client = MlflowClient(f"sqlite:///{site.clone / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("dying").experiment_id
    (run,) = wait_until(
        lambda: client.search_runs([experiment], "attributes.status = 'FAILED'"),
    )
    assert run.data.tags["failure"].startswith("Crashed")
    failures = [a for a in site.ask("artifacts/filter", {}) if a["key"] == "mipp-failure"]
    assert len(failures) == 1
    assert "Crashed" in failures[0]["data"]


def test_stop_ends_just_what_was_started(site):
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        assert site.serve("stop").stdout == "stopped worker, mlflow, prefect\n"
        assert [p for p in site.alive if p.is_running() and p.status() != "zombie"] == []
        assert other.poll() is None
        assert site.serve("stop").stdout == "nothing to stop\n"
    finally:
        other.kill()
        other.wait()


def wait_until(found, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = found()
        if answer:
            return answer
        time.sleep(0.5)
    raise AssertionError(f"not within {seconds} seconds")


def flow_over(workdir):
    """The process that is training in a work directory."""
    for partial in workdir.glob(".train.partial-*"):
        return psutil.Process(int(partial.name.split("-")[1]))
    return None
