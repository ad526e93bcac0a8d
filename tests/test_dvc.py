"""`dvc.yaml` says what the stages say, and `dvc repro` does what `mipp run` does."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mipp.config import Params, dump_params, load_params, write_params
from mipp.stages import STAGES, run_all
from mipp.training import EpochRecord

ROOT = Path(__file__).parents[1]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
NETWORKS = ("train", "choose", "prune", "finetune")


def paths(entries):
    """Paths of DVC's `outs` or `metrics`, where an entry may carry settings."""
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def outs(stage):
    return paths([*stage.get("outs", ()), *stage.get("metrics", ())])


def stages_read(name):
    """Stages whose folder a DVC stage depends on, in order."""
    parts = [Path(dep).parts for dep in PIPELINE[name]["deps"]]
    return tuple(path[1] for path in parts if path[0] == "work")


def test_stages_are_those_of_a_run_in_order_and_tracking():
    assert list(PIPELINE) == [*STAGES, "track"]


@pytest.mark.parametrize("name", STAGES)
def test_stage_lists_the_parameters_that_it_depends_on(name):
    assert tuple(PIPELINE[name]["params"]) == STAGES[name].params


@pytest.mark.parametrize("name", STAGES)
def test_stage_depends_on_the_stages_that_it_reads(name):
    assert stages_read(name) == STAGES[name].reads


def test_tracking_depends_on_every_stage_that_it_logs():
    assert set(stages_read("track")) == {*NETWORKS, "evaluate", "report"}
    assert PIPELINE["track"]["params"] == ["tracking"]


@pytest.mark.parametrize("name", STAGES)
def test_stage_runs_its_own_command(name):
    assert PIPELINE[name]["cmd"] == f"python -m mipp {name} --workdir work --config params.yaml"


@pytest.mark.parametrize("name", PIPELINE)
def test_dependencies_exist_or_are_made_by_an_earlier_stage(name):
    earlier = list(PIPELINE)[: list(PIPELINE).index(name)]
    made = [Path(out) for stage in earlier for out in outs(PIPELINE[stage])]
    for dep in map(Path, PIPELINE[name]["deps"]):
        made_here = any(out in (dep, *dep.parents) for out in made)
        assert made_here or (ROOT / dep).exists(), dep


@pytest.mark.parametrize("name", PIPELINE)
def test_parameters_exist(name):
    values = dump_params(Params())
    for key in PIPELINE[name]["params"]:
        section, _, field = key.partition(".")
        assert section in values
        assert not field or field in values[section]


@pytest.mark.parametrize("name", STAGES)
def test_stage_depends_on_its_module_and_the_folders_that_it_imports(name):
    module = Path(sys.modules[STAGES[name].body.__module__].__file__).relative_to(ROOT)
    tree = ast.parse((ROOT / module).read_text())
    imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    folders = {
        "/".join(m.split(".")[:2])
        for m in imported
        if m.startswith("mipp.") and (ROOT / "/".join(m.split(".")[:2])).is_dir()
    }
    assert ({str(module)} | folders - {"mipp/stages"}) - set(PIPELINE[name]["deps"]) == set()


@pytest.mark.parametrize("name", PIPELINE)
def test_nothing_depends_on_what_varies_between_equal_runs(name):
    assert [dep for dep in PIPELINE[name]["deps"] if dep.endswith("timing.json")] == []


@pytest.mark.parametrize("plot", yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"])
def test_plotted_columns_are_in_the_history(plot):
    ((file, settings),) = plot.items()
    assert Path(file).parts[1] in STAGES
    assert {settings["x"], *settings["y"]} <= set(EpochRecord.__dataclass_fields__)


TINY = (
    "model.name=lenet-300-100",
    "data.size=8",
    "data.calibration=128",
    "train.epochs=1",
    "extract.rows=512",
    "finetune.epochs=1",
    "evaluate.latency_repeats=3",
    "compute.device=cpu",
)


class Repository:
    """A copy of the project under DVC, with a small run for its parameters."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("mipp", "tasks", "flows"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.pyc"))
        shutil.copyfile(ROOT / "dvc.yaml", folder / "dvc.yaml")
        self.set_params()
        self.dvc("init", "--no-scm")
        self.dvc("config", "core.analytics", "false")

    def set_params(self, *overrides):
        self.params = load_params(overrides=[*TINY, *overrides])
        write_params(self.params, self.folder / "params.yaml")

    def dvc(self, *arguments):
        bin_folder = Path(sys.executable).parent
        found = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=self.folder,
            env={
                **os.environ,
                "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": str(self.folder),
                "DVC_NO_ANALYTICS": "1",
                "OMP_NUM_THREADS": "1",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == 0, found.stdout + found.stderr
        return found.stdout

    def repro(self):
        """Names of the stages that ran."""
        printed = self.dvc("repro")
        return [name for name in PIPELINE if f"Running stage '{name}'" in printed]

    def selection(self):
        return (self.folder / "work/choose/selection.json").read_bytes()


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return Repository(tmp_path_factory.mktemp("dvc"))


@pytest.fixture(scope="module")
def repros(repository):
    """What three calls ran: at first, again, and with another budget."""
    ran = {"first": repository.repro(), "again": repository.repro()}
    repository.set_params("choose.budget=macs:0.25")
    ran["other budget"] = repository.repro()
    return ran


@pytest.mark.slow
def test_first_repro_runs_every_stage(repros):
    assert repros["first"] == list(PIPELINE)


@pytest.mark.slow
def test_second_repro_runs_nothing(repros):
    assert repros["again"] == []


@pytest.mark.slow
def test_other_budget_reruns_what_follows_the_choice(repros):
    later = ["choose", "prune", "finetune", "evaluate", "report", "track"]
    assert repros["other budget"] == later


@pytest.mark.slow
def test_repro_selects_what_the_command_selects(repros, repository, tmp_path):
    run_all(tmp_path, repository.params)
    assert repository.selection() == (tmp_path / "choose/selection.json").read_bytes()


@pytest.mark.slow
def test_store_with_other_content_reruns_the_estimates(repros, repository):
    """What a store holds counts, whatever changed it: here the code, under equal parameters."""
    capture = repository.folder / "mipp/activations/capture.py"
    code = capture.read_text()
    row = ".flatten(0, 1)[:, :, None]"  # of a linear layer's inputs
    assert code.count(row) == 1
    capture.write_text(code.replace(row, f"{row} * 2"))
    assert repository.repro()[:2] == ["extract", "estimate"]
