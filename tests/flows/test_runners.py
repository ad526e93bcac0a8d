"""The runner that the parameters ask for, and what it cannot do without."""

import subprocess
import sys
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import ThreadPoolTaskRunner

from flows import runners
from flows.pipeline import main
from flows.runners import _begin_in, _one_server, task_runner
from flows.sweep import runner_of_points
from mipp.config import ComputeConfig
from mipp.errors import ConfigError


@pytest.mark.parametrize(
    ("compute", "workers"),
    [
        (ComputeConfig(workers=3), 3),
        (ComputeConfig(runner="serial", workers=3), 1),
    ],
)
def test_threads_are_as_many_as_asked_for(compute, workers):
    runner = task_runner(compute)
    assert isinstance(runner, ThreadPoolTaskRunner)
    assert runner._max_workers == workers


@pytest.mark.slow  # another process; the ladder keeps ray behind its wall
def test_threads_do_not_import_ray():
    program = (
        "import sys; from flows.runners import resources, task_runner\n"
        "from mipp.config import ComputeConfig as C\n"
        "with resources(C()): task_runner(C())\n"
        "assert not {'ray', 'prefect_ray'} & set(sys.modules), 'Ray was imported'"
    )
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], check=True)


@pytest.mark.skipif(find_spec("prefect_ray") is not None, reason="Ray is installed")
def test_missing_ray_is_named():
    with pytest.raises(ConfigError, match=r"pip install 'mipp-pruning\[ray\]'"):
        task_runner(ComputeConfig(runner="ray"))


def test_command_refuses_resources_of_a_cluster_on_threads(tmp_path, monkeypatch, capsys):
    arguments = ["--workdir", str(tmp_path / "work"), "--set", "compute.gpus_per_task=1"]
    monkeypatch.setattr("sys.argv", ["pipeline", *arguments])
    assert main() == 2
    assert "compute.gpus_per_task has no effect" in capsys.readouterr().err


def test_points_run_on_as_many_threads_as_there_are_processes():
    runner = runner_of_points(ComputeConfig(workers=7), 3)
    assert isinstance(runner, ThreadPoolTaskRunner)
    assert runner._max_workers == 3


def test_sweep_on_a_cluster_refuses_a_number_of_processes():
    with pytest.raises(ConfigError, match=r"workers=2 \(--workers\) has no effect"):
        runner_of_points(ComputeConfig(runner="ray"), 2)


def test_worker_begins_in_the_folder_of_the_flow_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flow").mkdir()
    _begin_in(str(tmp_path / "flow"))()
    assert Path.cwd() == tmp_path / "flow"
    _begin_in(str(tmp_path / "none"))()
    assert Path.cwd() == tmp_path / "flow"


@pytest.mark.parametrize(
    ("cluster", "configured", "told"),
    [
        (None, None, "http://127.0.0.1:8123/api"),  # this process's temporary one
        (None, "http://prefect:4200/api", "http://prefect:4200/api"),
        ("ray://elsewhere:10001", None, None),
    ],
)
def test_workers_of_this_machine_start_no_server_of_their_own(
    cluster, configured, told, monkeypatch
):
    here = SimpleNamespace(api_url="http://127.0.0.1:8123/api")
    monkeypatch.setattr(runners, "get_client", lambda sync_client: nullcontext(here))
    with temporary_settings({PREFECT_API_URL: configured}):
        with _one_server(cluster):
            assert PREFECT_API_URL.value() == told
        assert PREFECT_API_URL.value() == configured
