"""The files that `mipp init` makes; that they run in a foreign folder is in system/test_init.py."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import yaml

from mipp.cli import main
from mipp.commands.init import SETTINGS, make_project
from mipp.config import Params, dump_params, load_params
from mipp.errors import ConfigError
from mipp.stages import STAGES

FILES = {
    ".gitignore",
    "README.md",
    "dvc.yaml",
    "my_network.py",
    "params.yaml",
    "prefect.toml",
    "prefect.yaml",
    "test_my_network.py",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project, and nothing of its module left in this process."""
    path, folder = list(sys.path), tmp_path_factory.mktemp("init") / "mine"
    make_project(folder)
    yield folder
    sys.path[:] = path
    sys.modules.pop("my_network", None)


def test_files_are_those_that_are_promised(project):
    assert {file.name for file in project.iterdir() if file.is_file()} == FILES


def test_parameters_are_all_spelled_out_and_name_the_module(project):
    stated = yaml.safe_load((project / "params.yaml").read_text())
    assert stated.keys() == dump_params(Params()).keys()
    assert load_params(project / "params.yaml") == load_params(overrides=SETTINGS)
    assert stated["model"]["name"] == "my_network:Net"


def test_pipeline_depends_on_the_module_and_on_nothing_of_another_folder(project):
    stages = yaml.safe_load((project / "dvc.yaml").read_text())["stages"]
    assert list(stages) == [*STAGES, "track"]
    assert "my_network.py" in stages["train"]["deps"]
    outside = [d for s in stages.values() for d in s["deps"] if d.startswith(("/", "..", "mipp"))]
    assert outside == []


def test_deployment_passes_what_the_flow_takes(project):
    deployments = yaml.safe_load((project / "prefect.yaml").read_text())["deployments"]
    assert [one["entrypoint"] for one in deployments] == ["flows.pipeline.pipeline"]
    assert deployments[0]["parameters"] == {"workdir": "work", "config": "params.yaml"}


def test_its_own_tests_pass(project, monkeypatch):
    monkeypatch.syspath_prepend(project)
    theirs = importlib.import_module("test_my_network")
    monkeypatch.delitem(sys.modules, "test_my_network")
    claims = [claim for name, claim in vars(theirs).items() if name.startswith("test_")]
    assert len(claims) == 2
    for claim in claims:
        claim()


def test_settings_of_prefect_are_those_of_this_repository(project):
    root = Path(__file__).parents[1]
    assert (project / "prefect.toml").read_text() == (root / "prefect.toml").read_text()


@pytest.mark.parametrize("name", ["README.md", "my_network.py"])
def test_nothing_is_overwritten(name, tmp_path):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match=f"would overwrite {name}") as refused:
        make_project(tmp_path)
    assert "mipp init NAME" in str(refused.value)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_file_is_no_folder(tmp_path, capsys):
    (tmp_path / "mine").write_text("")
    assert main(["init", str(tmp_path / "mine")]) == 2
    assert "give another name" in capsys.readouterr().err


def test_command_tells_what_it_wrote(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mipp.commands.init.dvc_pipeline", lambda *given: "stages:\n")
    assert main(["init", str(tmp_path / "a"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"folder": str(tmp_path / "a"), "files": sorted(FILES)}
    assert main(["init", str(tmp_path / "b")]) == 0
    assert f"cd {tmp_path / 'b'}" in capsys.readouterr().out
