"""`dvc.yaml` says what the stages say; what DVC does with it is in system/test_dvc_repro.py."""

from pathlib import Path

import pytest
import yaml

from mipp.cli import main
from mipp.config import Params, dump_params
from mipp.sources import closure
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
    stage = STAGES[name]
    assert tuple(PIPELINE[name]["params"]) == (*stage.params, *stage.tries)


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


def test_file_is_what_the_command_writes(monkeypatch, capsys):
    """After a change of imports: `mipp dvc --inputs experiments/inputs > dvc.yaml`."""
    monkeypatch.chdir(ROOT)
    assert main(["dvc", "--inputs", "experiments/inputs"]) == 0
    assert capsys.readouterr().out == (ROOT / "dvc.yaml").read_text()


def sources_of(name):
    """Files that a stage imports, with every row of its tables, by the library's own closure."""
    stage = STAGES[name]
    rows = [table.address(row).partition(":")[0] for table in stage.names.values() for row in table]
    return set(closure([stage.body.__module__, *rows]))


def listed_sources(name):
    """Files that a DVC stage depends on, of a folder all that it holds."""
    deps = [ROOT / dep for dep in PIPELINE[name]["deps"] if dep.startswith("mipp")]
    found = [file for dep in deps for file in ([dep] if dep.is_file() else dep.rglob("*.py"))]
    return {str(file.relative_to(ROOT)) for file in found}


@pytest.mark.parametrize("name", STAGES)
def test_stage_depends_on_all_sources_that_it_imports_and_on_no_other(name):
    assert sources_of(name) - listed_sources(name) == set()
    assert {
        path for path in listed_sources(name) - sources_of(name) if Path(path).name != "__init__.py"
    } == set()


def test_extraction_depends_on_the_networks():
    assert "mipp/models/vgg.py" in listed_sources("extract")


def test_sources_of_a_folder_of_one_s_own_are_listed(monkeypatch, tmp_path, capsys):
    (tmp_path / "dvc_beside.py").write_text("")
    (tmp_path / "dvc_set.py").write_text("import dvc_beside\ndef load(): ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["params", "--set", "data.name=dvc_set:load"]) == 0
    (tmp_path / "c.yaml").write_text(capsys.readouterr().out)
    assert main(["dvc", "--workdir", "w", "--config", "c.yaml"]) == 0
    stages = yaml.safe_load(capsys.readouterr().out)["stages"]
    assert stages["train"]["deps"] == ["dvc_beside.py", "dvc_set.py"]
    assert stages["estimate"]["deps"] == ["w/extract/outputs.json"]
    assert stages["report"]["cmd"] == "python -m mipp report --workdir w --config c.yaml"


@pytest.mark.parametrize(
    ("text", "key"), [("", "seed"), ("seed: 0\ndata: {name: digits}", "data.root")]
)
def test_file_that_leaves_a_parameter_out_is_refused(text, key, monkeypatch, tmp_path, capsys):
    """DVC sees only what the file spells out."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(text)
    assert main(["dvc", "--config", "c.yaml"]) == 2
    said = capsys.readouterr().err
    assert f"does not spell out {key}." in said
    assert "mipp params --config c.yaml" in said


def test_compiled_modules_are_no_part_of_a_folder():
    assert "__pycache__" in (ROOT / ".dvcignore").read_text().splitlines()


@pytest.mark.parametrize("name", PIPELINE)
def test_nothing_depends_on_what_varies_between_equal_runs(name):
    assert [dep for dep in PIPELINE[name]["deps"] if dep.endswith("timing.json")] == []


@pytest.mark.parametrize("plot", CURVES)
def test_plotted_columns_are_in_the_history(plot):
    ((file, settings),) = plot.items()
    assert Path(file).parts[1] in STAGES
    assert {settings["x"], *settings["y"]} <= set(EpochRecord.__dataclass_fields__)
