"""A fault at every write of every stage: the next run ends as an undisturbed one does."""

import contextlib
import os
import random
import shutil

import pytest
from conftest import NAMES
from writes import FAULTS, KILLS, Broken, watched

KINDS = {**FAULTS, **KILLS}
EVERY = ("raise", "kill")  # at every write; the others at every fifth
SAMPLE = 1  # writes of a stage, in the default tests

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork beside threads, 3.12


def writes_of(finished, stage, folder):
    """How many writes a command has."""
    count = []
    finished.before(stage, folder)
    with watched(folder, lambda *event: count.append(event)):
        assert finished.command(stage, folder)[0] == 0
    shutil.rmtree(folder)
    return len(count)


def end_of(finished, stage, folder, act):
    """Exit code of a command that a fault befalls, and what it says; None where it raises."""
    try:
        with watched(folder, act):
            return finished.command(stage, folder)
    except Broken:
        return None, "Expected no words of a fault that is none of a disk"


def end_apart(finished, stage, folder, act):
    """The same of a process that is killed."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException), watched(folder, act):
            os._exit(finished.command(stage, folder)[0])
        os._exit(70)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), ""


def try_fault(finished, stage, kind, folder, number):
    """A fault at one write of a command, then a rerun."""
    work = finished.before(stage, folder)
    act = KINDS[kind](number)
    if kind in KILLS:
        code, _ = end_apart(finished, stage, work, act)
        assert code in (137, 0)  # fewer writes where threads take turns otherwise
    else:
        code, said = end_of(finished, stage, work, act)
        assert code in (None, 0, 2)
        assert not code or ("Expected" in said and "got" in said)
    assert finished.command(stage, work) == (0, "")
    finished.require_same(work, NAMES[: NAMES.index(stage) + 1] if stage in NAMES else NAMES)
    shutil.rmtree(work)


def try_faults(finished, stage, kind, folder, writes):
    """Faults at these writes, one after the other; says at which one it fails."""
    for number in writes:
        try:
            try_fault(finished, stage, kind, folder / str(number), number)
        except Exception as error:
            raise AssertionError(f"{kind} at write {number} of {stage}") from error


@pytest.mark.xdist_group("faults")  # one process makes the run
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_at_some_writes_changes_no_result(finished, kind, tmp_path, record_property):
    count = writes_of(finished, "choose", tmp_path / "seen")
    writes = random.Random(kind).sample(range(count), SAMPLE)
    record_property("cases", len(writes))
    try_faults(finished, "choose", kind, tmp_path, writes)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stage", [*NAMES, "run"])
def test_a_fault_at_every_write_changes_no_result(finished, stage, kind, tmp_path, record_property):
    count = writes_of(finished, stage, tmp_path / "seen")
    writes = range(0, count, 1 if kind in EVERY else 5)
    record_property("cases", len(writes))
    try_faults(finished, stage, kind, tmp_path, writes)


@pytest.mark.slow
def test_no_write_is_overlooked(finished, tmp_path):
    """Every file of a finished run was opened where a fault can be."""
    opened = set()

    def note(number, event, path):
        name, partial, _ = os.path.basename(path).partition(".partial-")
        opened.add(name.removeprefix(".") if partial else name)

    with watched(tmp_path, note):
        assert finished.command("run", tmp_path / "work") == (0, "")
    files = {path for path in (tmp_path / "work").rglob("*") if path.is_file()}
    missing = {f.name for f in files if "zarr" not in str(f)} - opened
    assert missing == set()
