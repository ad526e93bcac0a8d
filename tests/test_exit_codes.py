"""What a command ends with, and what it says on the way."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mipp.cli import main
from mipp.errors import BudgetError, ExportError
from mipp.process.exit_codes import EXIT_CODES, exit_code
from mipp.stages import STAGES
from tests.smallest_run import SMALLEST


@pytest.mark.parametrize(
    ("error", "code"), [(BudgetError("too small"), 2), (ExportError("does not fit"), 1)]
)
def test_bad_input_is_2_and_every_other_error_of_ours_1(error, code, capsys):
    def command():
        raise error

    assert exit_code(command) == code
    assert capsys.readouterr().err == f"{type(error).__name__}: {error}\n"


def test_page_of_commands_has_the_codes_of_the_help():
    page = (Path(__file__).parents[1] / "docs/operations.md").read_text()
    told = set(re.findall(r"^\| (\d+) \|", page, re.MULTILINE))
    assert told == set(re.findall(r"\d+", EXIT_CODES)) == {"0", "1", "2", "3", "130"}


def test_a_reader_that_has_had_enough_ends_the_command_without_a_traceback(tmp_path):
    lines = "from mipp.process.exit_codes import exit_code\nexit_code(lambda: print('x' * 10**6))"
    done = subprocess.run(
        ["bash", "-c", '"$0" -c "$1" | head -c 1', sys.executable, lines],
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("x", "")


def test_another_pipe_that_breaks_is_not_kept_quiet():
    def command():
        raise BrokenPipeError("to a worker")

    with pytest.raises(BrokenPipeError, match="to a worker"):
        exit_code(command)


@pytest.mark.parametrize(("answer", "code"), [(None, 0), (0, 0), (1, 1)])
def test_a_command_that_ends_well_has_its_own_code(answer, code):
    assert exit_code(lambda: answer) == code


def test_stopped_by_the_keyboard_is_130_and_one_line(capsys):
    def command():
        raise KeyboardInterrupt

    assert exit_code(command) == 130
    assert capsys.readouterr().err.startswith("stopped by Ctrl-C; the same command goes on")


@pytest.mark.parametrize(("asked", "given"), [(0o022, 0o750), (0o002, 0o770), (0o077, 0o700)])
def test_what_a_command_makes_is_closed_to_others(asked, given, tmp_path):
    before = os.umask(asked)
    try:
        exit_code(lambda: (tmp_path / "made").mkdir())
        assert os.umask(asked) == asked
    finally:
        os.umask(before)
    assert (tmp_path / "made").stat().st_mode & 0o777 == given


def _hear_ctrl_c():
    """A job in the background of a shell is started so that it does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def mipp_run(workdir, stop_at=None):
    """Exit code and lines of a run, which gets a Ctrl-C when a stage begins."""
    command = [sys.executable, "-m", "mipp", "run", "--workdir", str(workdir)]
    options = [part for override in SMALLEST for part in ("--set", override)]
    lines = []
    with subprocess.Popen(
        [*command, *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_hear_ctrl_c,
    ) as process:
        overdue = threading.Timer(120, process.kill)
        overdue.start()
        for line in process.stderr:
            lines.append(line)
            if stop_at and line.startswith(f"{stop_at}: running"):
                process.send_signal(signal.SIGINT)
        code = process.wait()
        overdue.cancel()
    return code, lines


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["train", "estimate", "choose", "finetune"])
def test_run_that_is_stopped_in_a_stage_goes_on_from_there(stage, tmp_path):
    code, lines = mipp_run(tmp_path / "work", stop_at=stage)
    assert code == 130
    assert "Traceback" not in "".join(lines)
    assert lines[-1].startswith("stopped by Ctrl-C")
    code, lines = mipp_run(tmp_path / "work")
    assert code == 0
    before = list(STAGES)[: list(STAGES).index(stage)]
    assert {f"{name}: up to date\n" for name in before} <= set(lines)


def test_what_a_run_makes_is_closed_to_others(tmp_path):
    before = os.umask(0o022)
    try:
        options = [f"--set={override}" for override in SMALLEST]
        assert main(["run", "--quiet", "--workdir", str(tmp_path / "work"), *options]) == 0
    finally:
        os.umask(before)
    made = [tmp_path / "work", *(tmp_path / "work").rglob("*")]
    assert [path for path in made if path.stat().st_mode & 0o007] == []


def test_what_is_no_error_of_ours_stays_an_error():
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda: 1 // 0)
