"""An undisturbed run, and copies of its first stages to be disturbed."""

import contextlib
import hashlib
import io
import json
import os
import shutil

import pytest

from mipp.cli import main
from mipp.stages import STAGES
from tests.smallest_run import SMALLEST

NAMES = tuple(STAGES)
MEASURED = ("evaluate", "report")  # times are in their files
BESIDE = {".run.lock", "params.yaml"}


class Run:
    """A finished run, and what is compared with it."""

    def __init__(self, folder):
        self.folder = folder
        assert self.command("run", folder) == (0, "")

    def command(self, name, workdir):
        """Exit code of a command, and what it said on stderr."""
        options = [f"--set={one}" for one in SMALLEST]
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = main([name, "--quiet", "--workdir", str(workdir), *options])
        return code, said.getvalue()

    def before(self, stage, folder):
        """A copy of what was there before a stage ran; of everything for the command `run`."""
        gone = NAMES[NAMES.index(stage) :] if stage in NAMES else ()
        shutil.copytree(
            self.folder, folder, ignore=lambda at, _: gone if at == str(self.folder) else ()
        )
        return folder

    def require_same(self, workdir, stages=NAMES):
        """That stages hold what those of the undisturbed run do, and that nothing else is left."""
        assert {*os.listdir(workdir)} - BESIDE == {*stages}
        for stage in stages:
            expected, found = contents(self.folder / stage), contents(workdir / stage)
            assert list(found) == list(expected), stage
            if stage not in MEASURED:
                assert found == expected, stage
            told = json.loads((workdir / stage / "outputs.json").read_text())
            assert [n for n in found if n in told and told[n] != found[n]] == [], stage


def contents(folder):
    """SHA-256 of every file, but of seconds, and of arrays: damage to these is seen when read."""
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*"))}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in files.items()
        if path.is_file() and name != "timing.json" and ".zarr/" not in name
    }


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("finished") / "work")
