"""`dvc.yaml` says what the stages say; what DVC does with it is in system/test_dvc_repro.py."""

import ast
import sys
from pathlib import Path

import pytest
import yaml

from mipp.config import Params, dump_params
from mipp.stages import STAGES
from mipp.training import EpochRecord

ROOT = Path(__file__).parents[1]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
CURVES = [
    plot
    for plot in yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]
    if isinstance(plot, dict)
]
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


@pytest.mark.parametrize("plot", CURVES)
def test_plotted_columns_are_in_the_history(plot):
    ((file, settings),) = plot.items()
    assert Path(file).parts[1] in STAGES
    assert {settings["x"], *settings["y"]} <= set(EpochRecord.__dataclass_fields__)
