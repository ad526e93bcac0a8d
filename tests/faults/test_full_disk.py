"""A real disk that fills up: a small tmpfs in a namespace of its own, made larger afterwards."""

import subprocess
import sys
from shutil import which

import pytest
from conftest import contents

from tests.smallest_run import SMALLEST

ALLOWED = (
    which("unshare") is not None
    and not subprocess.run(
        ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"],
        capture_output=True,
    ).returncode
)
SCRIPT = """
mount -t tmpfs -o size={size}k none {disk} || exit 99
{command} --workdir {disk}/work; echo code $? >&2
mount -o remount,size=64m {disk} || exit 99
{command} --workdir {disk}/work || exit 98
cp -r {disk}/work {kept}
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ALLOWED, reason="a namespace with a mount of its own is not allowed"),
]


@pytest.mark.parametrize("size", [300, 900, 2900])
def test_a_run_says_what_is_full_and_goes_on_once_there_is_room(finished, size, tmp_path):
    (tmp_path / "disk").mkdir()
    options = " ".join(f"--set={one}" for one in SMALLEST)
    command = f"{sys.executable} -m mipp run --quiet {options}"
    script = SCRIPT.format(
        size=size, disk=tmp_path / "disk", kept=tmp_path / "kept", command=command
    )
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "code 2" in done.stderr
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    for stage in ("train", "estimate", "choose", "prune", "finetune"):
        assert contents(tmp_path / "kept" / stage) == contents(finished.folder / stage)
