"""The first day is made of what the pages tell a newcomer, and ends where a step goes wrong."""

from pathlib import Path

import pytest
import torch

from benchmarks.shared.kept import write_json
from benchmarks.validation import newcomer
from benchmarks.validation.newcomer import (
    MENDS,
    MINE,
    README,
    TESTS,
    TUTORIAL,
    Step,
    Visit,
    mend,
    tutorial,
)
from benchmarks.validation.newcomer_files.my_images import batches, write
from benchmarks.validation.newcomer_files.my_mistakes import MISTAKES, said
from benchmarks.validation.newcomer_files.my_network import Net
from mipp.config import DataConfig
from mipp.data import load_data

ROOT = Path(__file__).parents[2]


def test_commands_are_those_that_pages_tell():
    readme = (ROOT / "README.md").read_text()
    assert [step.command for step in (*README, TESTS) if step.command not in readme] == []
    project = (ROOT / "docs/tutorials/your-project.md").read_text()
    typed = " && ".join(step.command for step in MINE)
    shop = ("mipp init shop", "python -m pytest", "dvc init --no-scm", "dvc repro")
    for command in (*shop, "mipp run --config params.yaml", "mipp doctor --config params.yaml"):
        assert command in project
        assert command in typed


def test_page_does_not_tell_where_the_clone_came_from(tmp_path, monkeypatch):
    options = newcomer.arguments(["--borrow"])
    monkeypatch.setattr(newcomer, "README", ())
    monkeypatch.setattr(newcomer, "MINE", ())
    monkeypatch.setattr(newcomer, "SOURCE", "/home/me/mipp")
    monkeypatch.setattr(Visit, "take", lambda _, step: {"command": step.command})
    for name in ("borrow", "bring"):
        monkeypatch.setattr(Visit, name, lambda _: None)
    monkeypatch.setattr(Visit, "said", lambda *_: "")
    (cloned,) = newcomer.visit(tmp_path, options)["steps"]
    assert cloned == {"command": "git clone --quiet ADDRESS mipp"}


def test_tutorial_is_the_first_with_their_network_in_place_of_its_own():
    page = TUTORIAL.read_text()
    code = tutorial(page)
    compile(code, "tutorial", "exec")
    assert code.count("def build") == page.count("def build") == 1
    assert "nn.Sequential(" in page
    assert "nn.Sequential(" not in code
    assert "pruned = mipp.prune(model, loader" in code
    assert "assert torch.equal(smaller(images)" in code


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (Step("odd", "echo train: running", "train", ".", lacks="running"), "not /running/"),
        (Step("odd", "echo done", "train", "."), "/train/"),
        (Step("odd", "echo train; exit 3", "train", "."), "got exit code 3"),
        (Step("odd", "echo train", "train", ".", code=2), "code 2"),
        (Step("odd", "false | echo train", "train", "."), "got exit code 1"),
    ],
)
def test_step_that_goes_otherwise_ends_the_visit(step, told, tmp_path):
    with pytest.raises(RuntimeError, match="odd did not go as it should") as refused:
        Visit(tmp_path).take(step)
    assert told in str(refused.value)


def test_step_that_goes_as_it_should_is_a_row(tmp_path):
    step = Step("even", "echo $PATH; exit 2", "mipp/.venv/bin", ".", lacks="running", code=2)
    row = Visit(tmp_path).take(step)
    assert (row["step"], row["command"]) == ("even", "echo $PATH; exit 2")
    assert 0 < row["minutes"] < 1


def test_their_images_are_a_set_of_the_pipeline(tmp_path):
    for seed, name in enumerate(("train", "test")):
        write(tmp_path / f"{name}.parquet", 40, seed)
    found = load_data(DataConfig(name="parquet", root=str(tmp_path), calibration=8), seed=0)
    assert len(found.test) == 40
    assert {int(label) for _, labels in found.test.batches(40) for label in labels} == {0, 1, 2, 3}


@pytest.mark.slow  # prunes twice
def test_every_mistake_is_told_with_its_mend():
    torch.manual_seed(0)
    lines = dict(mend(name, words) for name, words in said(Net, batches(128)))
    assert lines.keys() == MISTAKES.keys() == MENDS.keys()


def test_words_that_mend_nothing_are_refused():
    with pytest.raises(RuntimeError, match=r"budget=0\.5: expected a line with"):
        mend("budget=0.5", "BudgetError: no.")


def test_page_has_minutes_of_steps_and_the_line_of_each_mistake(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    newcomer.write_page()
    assert "Not measured" in newcomer.PAGE.read_text()
    steps = [
        {"step": "a run", "in": "shop", "command": "mipp run", "minutes": 1.25},
        {"step": "its test", "in": "shop", "command": "pytest", "minutes": 2.5},
    ]
    about = {"threads": 2, "cores": 2, "load_average": [0.1], "versions": {"torch": "2.13"}}
    mistakes = {"budget=0.5": "write 'macs:0.5'"}
    said = {"steps": steps, "mistakes": mistakes, "commit": "abc", "command": "python -m it"}
    write_json(newcomer.FILE, said | about)
    newcomer.write_page()
    page = newcomer.PAGE.read_text()
    assert "| a run | `mipp run` | 1.2 |" in page
    assert "4 minutes in all" in page
    assert "| `budget=0.5` | write 'macs:0.5' |" in page
    assert "abc" in page
