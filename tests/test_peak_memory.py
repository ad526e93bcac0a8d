"""Peak memory against what the kernel says, and where there is no kernel to ask."""

import math
import sys
from pathlib import Path

import pytest

from mipp.process import peak_memory
from mipp.process.peak_memory import peak_rss_mb


@pytest.mark.skipif(sys.platform != "linux", reason="the oracle is /proc")
def test_peak_memory_is_in_mebibytes():
    status = Path("/proc/self/status").read_text()
    held = int(status.split("VmRSS:")[1].split()[0]) / 1024
    # The kernel's two counters lag by pages; a wrong unit is off by 1024.
    assert 0.9 * held < peak_rss_mb() < 50 * held


def test_peak_memory_of_a_system_that_does_not_say_is_no_number(monkeypatch):
    monkeypatch.setattr(peak_memory, "resource", None)
    assert math.isnan(peak_rss_mb())
