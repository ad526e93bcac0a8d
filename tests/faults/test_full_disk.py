"""Real disks, each a small tmpfs in a namespace of its own, that fill up or are read-only."""

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
mount -t tmpfs -o {before} none {disk} || exit 99
{first}; echo code $? >&2
{then}
mount -o remount,{after} {disk} || exit 99
{run} || exit 98
cp -r {disk}/work {kept}
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ALLOWED, reason="a namespace with a mount of its own is not allowed"),
]


class Disk:
    """A disk of a namespace's own, on which a command fails and is run again."""

    def __init__(self, folder):
        self.disk, self.kept = folder / "disk", folder / "kept"
        self.disk.mkdir()

    def command(self, name):
        options = " ".join(f"--set={one}" for one in SMALLEST)
        program = f"{sys.executable} -m mipp {name} --quiet"
        return f"{program} --workdir {self.disk}/work {options}"

    def run(self, **steps):
        """Run the script in a namespace; what was said on stderr."""
        steps = {"then": "", "run": self.command("run"), **steps}
        script = SCRIPT.format(disk=self.disk, kept=self.kept, **steps)
        inside = ["unshare", "--map-root-user", "--mount", "sh", "-c", script]
        done = subprocess.run(inside, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    def require_same(self, finished):
        for stage in ("train", "estimate", "choose", "prune", "finetune"):
            assert contents(self.kept / stage) == contents(finished.folder / stage)


@pytest.mark.parametrize("size", [300, 900, 2900])
def test_a_run_says_what_is_full_and_goes_on_once_there_is_room(finished, size, tmp_path):
    disk = Disk(tmp_path)
    said = disk.run(before=f"size={size}k", first=disk.command("run"), after="size=64m")
    assert "code 2" in said
    assert "No space left on device" in said
    disk.require_same(finished)


def test_a_run_on_a_mount_that_became_read_only_says_so_and_goes_on_later(finished, tmp_path):
    disk = Disk(tmp_path)
    then = f"mount -o remount,ro {disk.disk} || exit 97; {disk.command('run')}; echo then $? >&2"
    said = disk.run(before="size=64m", first=disk.command("train"), then=then, after="rw")
    assert "code 0" in said
    assert "then 2" in said
    assert "Read-only file system" in said
    disk.require_same(finished)
