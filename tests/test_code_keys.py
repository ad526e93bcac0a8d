"""Code is part of a stage's key: what runs again after an edit, in every door but DVC's.

The sources are copied, so that they can be edited, and every command is a process of its own.
DVC's is in system/test_dvc_repro.py.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mipp.stages import STAGES
from tests.smallest_run import SMALLEST

ROOT = Path(__file__).parents[1]
TINY = (*SMALLEST, "evaluate.latency_batch=8", "evaluate.export=[]", "tracking.uri=null")
RUNS = """
import json, sys
from mipp.cli import main
sys.exit(any([main(arguments) for arguments in json.loads(sys.argv[1])]))
"""
WOULD_RUN = """
import json, os, sys
from pathlib import Path
from mipp.config import load_params
from mipp.stages import STAGES
from mipp.stages.stage import needs_run
from mipp.disk.storage import Workdir

for workdir, names, overrides in json.loads(sys.argv[1]):
    params = load_params(overrides=overrides)
    for name in names:  # each in a process of its own: sources are read once
        texts = {Path(one): Path(one).read_text() for one in name.split()}
        for file, text in texts.items():
            file.write_text(text + "# one more comment\\n")
        if os.fork() == 0:
            work = Workdir.open(workdir)
            stages = [s.name for s in STAGES.values() if needs_run(s, work, params)]
            print(json.dumps(stages), flush=True)
            os._exit(0)
        os.wait()
        for file, text in texts.items():
            file.write_text(text)
"""
SWEEP = """
title: edits
set:
  model.name: lenet-300-100
  data.size: 8
  data.calibration: 128
  train.epochs: 1
  extract.rows: 512
  finetune.epochs: 1
  evaluate.latency_batch: 1
methods: [mipp, l1, random]
budgets: ["macs:0.5"]
seeds: [0]
"""
INVERTED = ("mipp/criteria/l1.py", "weights.abs()", "-weights.abs()")
AFTER = [*STAGES][[*STAGES].index("choose") :]


class Sources:
    """A copy of the project's sources that can be edited, and commands that run with it."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("mipp", "tasks", "flows"):
            shutil.copytree(ROOT / name, folder / name)  # with what is compiled of them
        (folder / "sweep.yaml").write_text(SWEEP)

    def copy(self, folder):
        shutil.copytree(self.folder, folder, symlinks=True)
        copied = Sources.__new__(Sources)
        copied.folder = folder
        return copied

    def edit(self, name, old, new):
        path = self.folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def comment(self, name):
        path = self.folder / name
        path.write_text(f"{path.read_text()}# one more comment\n")

    def python(self, *arguments):
        """What Python says, output and log."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(self.folder),
                "PYTHONDONTWRITEBYTECODE": "1",  # an edit within a second of the last import
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                "DO_NOT_TRACK": "1",
                "OMP_NUM_THREADS": "1",
            },
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def out_of_date(self, *asked):
        """Stages that a comment more makes run again, by file or files, for each run and these."""
        runs = [(run, list(names), [*TINY, *overrides]) for run, names, overrides in asked]
        lines = iter(self.python("-c", WOULD_RUN, json.dumps(runs)).splitlines())
        return [{name: json.loads(next(lines)) for name in names} for _, names, _ in asked]

    def run(self, *overrides, door=("-m", "mipp", "run"), workdir="work"):
        """Stages that the door runs: their manifests are written anew."""
        settings = [f"--set={text}" for text in (*TINY, *overrides)]
        before = self.written(workdir)
        said = self.python(*door, "--workdir", workdir, *settings)
        after = self.written(workdir)
        unneeded = [stage for stage in STAGES if f"{stage}: not needed" in said]
        return [s for s in STAGES if after[s] != before[s] and s not in unneeded]

    def written(self, workdir):
        """When each stage's manifest was written, 0 where there is none."""
        files = {stage: self.folder / workdir / stage / "manifest.json" for stage in STAGES}
        return {s: file.stat().st_mtime_ns if file.exists() else 0 for s, file in files.items()}

    def selection(self):
        return json.loads((self.folder / "work/choose/selection.json").read_text())["kept"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Sources with a finished run of `l1`, and one of mipp beside it, which no test changes."""
    sources = Sources(tmp_path_factory.mktemp("sources") / "project")
    run = ["run", "--quiet", *(f"--set={text}" for text in TINY), "--workdir"]
    runs = [[*run, "work", "--set=choose.method=l1"], [*run, "ours"]]
    sources.python("-c", RUNS, json.dumps(runs))
    return sources


@pytest.fixture
def sources(finished, tmp_path):
    return finished.copy(tmp_path / "project")


OF_IMAGES = ["train", "choose", "prune", "finetune", "evaluate"]
UNREAD = (
    "mipp/criteria/l2.py mipp/models/vgg.py mipp/data/parquet.py mipp/stages/pipeline.py "
    "mipp/cli.py mipp/__init__.py flows/pipeline.py"
)
EDITS = {  # of a run of l1
    "mipp/report/page.py": ["report"],
    "mipp/criteria/l1.py": ["choose"],
    "mipp/criteria/shared/filters.py": ["choose"],
    "mipp/models/lenet.py": OF_IMAGES,
    "mipp/data/digits.py": OF_IMAGES,
    UNREAD: [],
}
EDITS_OF_MIPP = {
    "mipp/criteria/l1.py": [],
    "mipp/models/lenet.py": ["train", "extract", *OF_IMAGES[1:]],
    "mipp/stages/extract.py": ["extract"],
    "mipp/needed_stages.py": ["evaluate", "report"],
    "mipp/stages/train.py": ["train", "finetune"],
}


def test_edit_makes_just_the_stages_out_of_date_that_import_it(finished):
    asked = ("work", EDITS, ["choose.method=l1"]), ("ours", EDITS_OF_MIPP, [])
    assert finished.out_of_date(*asked) == [EDITS, EDITS_OF_MIPP]


@pytest.mark.slow
@pytest.mark.parametrize("door", ["mipp", "flows.pipeline"])
def test_inverted_criterion_is_run_again_with_all_that_follows(door, sources):
    before = sources.selection()
    sources.edit(*INVERTED)
    command = ("-m", "mipp", "run") if door == "mipp" else ("-m", door)
    assert sources.run("choose.method=l1", door=command) == AFTER
    assert sources.selection() != before
    assert sources.run("choose.method=l1", door=command) == []


@pytest.mark.slow
@pytest.mark.parametrize("door", ["mipp", "flows.pipeline"])
def test_comment_in_the_report_makes_the_report_alone_again(door, sources):
    sources.comment("mipp/report/page.py")
    command = ("-m", "mipp", "run") if door == "mipp" else ("-m", door)
    assert sources.run("choose.method=l1", door=command) == ["report"]


@pytest.mark.slow
def test_edit_that_changes_no_answer_ends_where_the_answers_are_the_same(sources):
    sources.comment("mipp/criteria/l1.py")
    assert sources.run("choose.method=l1") == ["choose"]


@pytest.mark.slow
def test_edit_of_another_criterion_leaves_mipp_alone(sources):
    sources.edit(*INVERTED)
    assert sources.run(workdir="ours") == []


def points(folder):
    return {file.name: file.stat().st_mtime_ns for file in (folder / "root/points").glob("*.json")}


@pytest.mark.slow
def test_point_whose_code_changed_is_computed_anew_and_no_other(sources):
    sweep = ("-m", "mipp", "sweep", "sweep.yaml", "--root", "root")
    sources.python(*sweep)
    before = points(sources.folder)
    assert len(before) == 3
    sources.edit(*INVERTED)
    sources.comment("mipp/report/page.py")
    sources.python(*sweep)
    after = points(sources.folder)
    assert {name: time for name, time in after.items() if name in before} == before
    assert [name.split("_")[1] for name in after if name not in before] == ["l1"]
    shared = [path.name.split("-")[0] for path in (sources.folder / "root/shared").iterdir()]
    assert sorted(shared) == ["choose"] * 4 + ["estimate", "extract", "train"]


@pytest.mark.slow
def test_parts_of_other_code_are_not_taken(sources):
    """A worker that was killed left states of pairs; the estimator is edited; none is used."""
    program = (
        "from mipp.config import load_params; from mipp.disk.storage import Workdir; "
        "from mipp.stages import pending_pairs, run_pair; "
        f"params = load_params(overrides={[*TINY, 'estimate.ridge=0.01']!r}); "
        "work = Workdir.open('ours'); run_pair(work, params, pending_pairs(work, params)[0]); "
        "print(*work.folder.glob('.estimate.parts-*'))"
    )
    first = set(sources.python("-c", program).split())
    sources.comment("mipp/information/moments.py")
    second = set(sources.python("-c", program).split())
    assert len(first) == 1
    assert len(second - first) == 1
