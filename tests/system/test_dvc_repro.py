"""What DVC does with `dvc.yaml`: the stages of `mipp run`, in a repository of its own."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mipp.config import load_params, write_params
from mipp.disk.storage import Workdir
from mipp.stages import run_all
from tests.smallest_run import SMALLEST

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("dvc")]

ROOT = Path(__file__).parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PIPELINE = list(STAGES)
EXTRACT = "mipp/stages/extract.py"
TINY = (*SMALLEST, "data.size=12")


class Repository:
    """A copy of the project under git and DVC, with a small run for its parameters."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("mipp", "tasks", "flows", "experiments"):
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("*.pyc", "__pycache__")
                shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        for name in ("dvc.yaml", "prefect.toml", ".gitignore", ".dvcignore"):
            shutil.copyfile(ROOT / name, folder / name)
        self.overrides = TINY
        self.set_params()
        self.git("init", "--quiet")
        self.dvc("init", "--quiet")
        self.dvc("config", "core.analytics", "false")
        self.commit("Start")

    def set_params(self, *overrides):
        """Change parameters; those changed before stay so."""
        self.overrides = (*self.overrides, *overrides)
        self.params = load_params(overrides=self.overrides)
        write_params(self.params, self.folder / "params.yaml")

    def dvc(self, *arguments):
        return self.run(sys.executable, "-m", "dvc", *arguments)

    def git(self, *arguments):
        return self.run("git", "-c", "user.name=test", "-c", "user.email=test@test", *arguments)

    def commit(self, message):
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)

    def run(self, *command):
        """What a command prints, at the top of the repository."""
        bin_folder = Path(sys.executable).parent
        found = subprocess.run(
            command,
            cwd=self.folder,
            env={
                **os.environ,
                "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": str(self.folder),
                "DVC_NO_ANALYTICS": "1",
                "DO_NOT_TRACK": "1",
                "OMP_NUM_THREADS": "1",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=900,
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

    def outputs(self):
        """Digest of every file of the work directory."""
        files = sorted(p for p in (self.folder / "work").rglob("*") if p.is_file())
        return {
            str(p.relative_to(self.folder)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in files
        }


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return Repository(tmp_path_factory.mktemp("dvc"))


@pytest.fixture(scope="module")
def reproduced(repository):
    """The repository after `dvc repro`, and the stages that it ran."""
    return repository, repository.repro()


def test_first_repro_runs_every_stage_and_the_second_none(reproduced):
    repository, ran = reproduced
    assert ran == PIPELINE
    assert repository.repro() == []


def test_repro_selects_what_the_command_selects(reproduced, tmp_path):
    repository, _ = reproduced
    run_all(Workdir(tmp_path), repository.params)
    assert repository.selection() == (tmp_path / "choose/selection.json").read_bytes()


AFTER_CHOOSE = PIPELINE[PIPELINE.index("choose") :]
RERUN = {  # a parameter of each section, and the stages that it may make run again
    "tracking.experiment=other": ["track"],
    "report.title=Other": ["report", "track"],
    "evaluate.latency_repeats=4": ["evaluate", "report", "track"],
    "finetune.epochs=2": ["finetune", "evaluate", "report", "track"],
    "prune.ridge=0.02": AFTER_CHOOSE,
    "choose.budget=macs:0.25": AFTER_CHOOSE,
    "choose.estimator=reconstruction": ["estimate", *AFTER_CHOOSE],
    "estimate.epochs=2": ["estimate", *AFTER_CHOOSE],
    "extract.rows=256": ["extract", "estimate", *AFTER_CHOOSE],
    "train.epochs=2": PIPELINE,
    "data.calibration=160": PIPELINE,
    "model.name=lenet5": PIPELINE,
    "seed=1": PIPELINE,
    "compute.workers=1": [],
}


def test_every_section_has_a_case():
    assert {key.partition(".")[0].partition("=")[0] for key in RERUN} == set(
        type(load_params()).model_fields
    )


@pytest.mark.parametrize("change", RERUN)
def test_changed_parameter_reruns_what_depends_on_it(reproduced, change):
    """Those that list it, and what follows from them; not those whose inputs came out equal."""
    repository, _ = reproduced
    repository.set_params(change)
    ran, key = repository.repro(), change.partition("=")[0]
    listed = {
        name
        for name, stage in STAGES.items()
        if any(key == listed or key.startswith(f"{listed}.") for listed in stage.get("params", ()))
    }
    assert listed <= set(ran)
    assert ran == [name for name in RERUN[change] if name in ran]


def test_other_content_reruns_the_estimates(reproduced):
    """What was extracted counts, whatever changed it: here code that `estimate` does not import."""
    repository, _ = reproduced
    file = repository.folder / EXTRACT
    code = file.read_text()
    assert code.count(".add(x, y)") == 1
    assert EXTRACT not in STAGES["estimate"]["deps"]
    file.write_text(code.replace(".add(x, y)", ".add(x * 2, y)"))
    try:
        assert repository.repro()[:2] == ["extract", "estimate"]
    finally:
        file.write_text(code)


@pytest.mark.parametrize(
    ("file", "old", "new", "stages"),
    [
        ("mipp/criteria/l1.py", "weights.abs()", "-weights.abs()", AFTER_CHOOSE),
        ("mipp/criteria/l1.py", "", "# a comment\n", ["choose"]),
        ("mipp/report/page.py", "", "# a comment\n", ["report"]),
    ],
    ids=["inverted criterion", "comment in a criterion", "comment in the report"],
)
def test_edit_reruns_the_stages_that_import_it(reproduced, file, old, new, stages):
    """And what follows where the answers are others: equal outputs end it."""
    repository, _ = reproduced
    repository.set_params("choose.method=l1")
    repository.repro()
    source = repository.folder / file
    code = source.read_text()
    source.write_text(code.replace(old, new) if old else code + new)
    try:
        assert repository.repro() == stages
    finally:
        source.write_text(code)


def test_metrics_and_plots_tell_what_a_change_did(reproduced):
    repository, _ = reproduced
    repository.repro()
    repository.commit("One budget")
    repository.set_params("choose.budget=macs:0.3")
    repository.repro()
    [found] = json.loads(repository.dvc("metrics", "diff", "--json")).values()
    assert found["macs"]["new"] < found["macs"]["old"]
    assert set(found) >= {"accuracy_finetuned", "units_removed"}
    page = Path(repository.dvc("plots", "diff").strip().removeprefix("file://"))
    assert "Fine-tuning" in page.read_text()


def test_pulled_outputs_are_the_pushed_ones_bit_for_bit(reproduced, tmp_path):
    repository, _ = reproduced
    repository.repro()
    before = repository.outputs()
    repository.dvc("remote", "add", "--force", "--default", "there", str(tmp_path / "remote"))
    repository.dvc("push")
    shutil.rmtree(repository.folder / ".dvc/cache")
    shutil.rmtree(repository.folder / "work")
    repository.dvc("pull")
    assert repository.outputs() == before
    assert repository.repro() == []


def test_experiments_are_listed_with_their_parameters(reproduced):
    repository, _ = reproduced
    repository.repro()
    repository.commit("Before experiments")
    for budget in ("macs:0.6", "macs:0.4"):
        repository.dvc("exp", "run", "--set-param", f"choose.budget={budget}")
    shown = json.loads(repository.dvc("exp", "show", "--json"))
    text = json.dumps(shown)
    assert '"macs:0.6"' in text
    assert '"macs:0.4"' in text


def test_changed_input_reruns_what_reads_data(reproduced):
    repository, _ = reproduced
    repository.repro()
    (repository.folder / "experiments/inputs/labels.txt").write_text("new")
    # estimates depend on the extraction's outputs, which are the same; measured times never are
    assert repository.repro() == [name for name in PIPELINE if name != "estimate"]


def test_ratios_side_by_side_share_the_dense_network(reproduced):
    repository, _ = reproduced
    repository.repro()
    (repository.folder / "ratios").mkdir()
    matrix = repository.folder / "experiments/ratios.dvc.yaml"
    shutil.copyfile(matrix, repository.folder / "ratios/dvc.yaml")
    repository.dvc("repro", "ratios/dvc.yaml")
    shown = json.loads(repository.dvc("metrics", "show", "--json"))
    files = shown[""]["data"]
    removed = [
        files[f"work-ratios/{ratio}/evaluate/metrics.json"]["data"]["units_removed"]
        for ratio in (0.3, 0.5, 0.7)
    ]
    assert removed == pytest.approx([0.3, 0.5, 0.7], abs=0.01)
    assert (repository.folder / "work-ratios/0.5/train").is_symlink()


def test_dvc_takes_over_what_a_flow_made(tmp_path):
    repository = Repository(tmp_path)
    repository.run(sys.executable, "-m", "flows.pipeline", "--config", "params.yaml")
    repository.dvc("commit", "--force")
    assert "up to date" in repository.dvc("status")
    assert repository.repro() == []
