"""Whether freed memory is kept is counted in page faults, in processes of their own."""

import json
import os
import platform
import subprocess
import sys

import pytest

from mipp.allocator import DECIDED

STEPS = 20
PROGRAM = f"""
import json, resource, sys
import numpy as np
from mipp.allocator import keep_freed_memory

kept = sys.argv[1] == "keep" and keep_freed_memory()

def step():  # three blocks of 16 MiB, all held at once and all freed
    blocks = [np.ones(2**21) for _ in range(3)]

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

step()
before = faults()
for _ in range({STEPS}):
    step()
print(json.dumps([kept, (faults() - before) / {STEPS}]))
"""
GLIBC = platform.libc_ver()[0] == "glibc"
needs_glibc = pytest.mark.skipif(not GLIBC, reason="the allocator is not that of glibc")


def run(*arguments, **environment):
    kept = {name: value for name, value in os.environ.items() if name not in DECIDED}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**kept, "NUMPY_MADVISE_HUGEPAGE": "0", **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


@needs_glibc
def test_memory_that_is_kept_costs_no_page_faults():
    kept, faults = run("keep")
    assert kept
    assert faults < 10
    assert run("leave")[1] > 1000  # of 12,288 pages


@needs_glibc
@pytest.mark.parametrize("name", DECIDED)
def test_what_the_environment_says_is_left_alone(name):
    value = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=7", "LD_PRELOAD": ""}.get(name, "131072")
    assert run("keep", **{name: value})[0] is False
