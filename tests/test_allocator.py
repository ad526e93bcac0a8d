"""Whether freed memory is kept is counted in page faults, in processes of their own."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from mipp.process import allocator
from mipp.process.allocator import DECIDED, GROWN, FreedMemory, keep_freed_memory

STEPS = 20
PROGRAM = f"""
import resource, runpy, sys
import numpy as np

if sys.argv[1:]:
    assert runpy.run_path(sys.argv[1])["keep_freed_memory"]()

def step():  # three blocks of 16 MiB, all held at once and all freed
    blocks = [np.ones(2**21) for _ in range(3)]

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

step()
before = faults()
for _ in range({STEPS}):
    step()
print((faults() - before) / {STEPS})
"""


def faults_of_a_step(*arguments):
    environment = {name: value for name, value in os.environ.items() if name not in DECIDED}
    environment["NUMPY_MADVISE_HUGEPAGE"] = "0"
    command = [sys.executable, "-c", PROGRAM, *arguments]
    return float(subprocess.check_output(command, env=environment, text=True))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")
def test_memory_that_is_kept_costs_no_page_faults():
    assert faults_of_a_step() > 1000  # of 12,288 pages
    assert faults_of_a_step(allocator.__file__) < 10


@pytest.mark.parametrize("name", DECIDED)
def test_what_the_environment_says_is_left_alone(monkeypatch, name):
    monkeypatch.setenv(name, "131072")
    assert keep_freed_memory.__wrapped__() is False


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    for name in DECIDED:
        monkeypatch.delenv(name, raising=False)
    assert keep_freed_memory.__wrapped__() is False


OWNERS = {  # of a process
    "flows/pipeline.py",
    "flows/runners.py",
    "mipp/cli.py",
    "mipp/experiments/workers.py",
    "mipp/stages/rank.py",
}


def test_only_who_owns_the_process_changes_it():
    root = Path(__file__).parents[1]
    files = [file for top in ("mipp", "tasks", "flows") for file in (root / top).rglob("*.py")]
    callers = {
        str(file.relative_to(root)) for file in files if "keep_freed_memory()" in file.read_text()
    }
    assert callers - {"mipp/process/allocator.py"} == OWNERS


def test_freed_memory_goes_back_each_time_the_process_has_grown(monkeypatch):
    sizes, trims = iter([100, 100 + GROWN, 101 + GROWN, 90, 300, 91 + GROWN, 80]), []
    monkeypatch.setattr(allocator, "_resident", lambda: next(sizes))
    freed = FreedMemory()
    monkeypatch.setattr(freed, "_trim", trims.append)
    freed.give_back()  # grown by what is allowed
    assert trims == []
    freed.give_back()  # by more; 90 are left
    assert trims == [0]
    freed.give_back()
    assert trims == [0]
    freed.give_back()
    assert trims == [0, 0]
