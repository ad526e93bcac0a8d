"""Ctrl-C ends a flow with its code, whatever its client waits for."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.light_process import LIGHT
from tests.smallest_run import SMALLEST

FLOW = """
import sys, time
from flows import stopping
from mipp.process.exit_codes import exit_code

stopping.GRACE = 0.5

def flow():
    with stopping.ends_on_ctrl_c():
        try:
            print("runs", flush=True)
            time.sleep(600)
        finally:
            time.sleep({wait})  # for a server that has ended

sys.exit(exit_code(flow))
"""


@pytest.mark.parametrize("wait", [0, 600])
def test_ctrl_c_ends_with_one_line_and_its_code(wait):
    code = [sys.executable, "-c", LIGHT + FLOW.format(wait=wait)]
    with subprocess.Popen(code, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as one:
        assert one.stdout.readline() == "runs\n"
        one.send_signal(signal.SIGINT)
        _, said = one.communicate(timeout=120)
    assert one.returncode == 130
    assert said == "stopped by Ctrl-C; the same command goes on from what is complete by now\n"


@pytest.mark.slow
def test_ctrl_c_of_a_terminal_ends_a_flow_and_its_server(tmp_path):
    """A terminal sends it to all processes of the command."""
    command = [sys.executable, "-m", "flows.pipeline", "--workdir", str(tmp_path / "work")]
    options = [part for override in SMALLEST for part in ("--set", override)]
    with subprocess.Popen(
        [*command, *options], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        while not (tmp_path / "work/choose").exists():
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped by Ctrl-C" in said
    assert "Traceback" not in said
    assert subprocess.run([*command, *options], check=False).returncode == 0
