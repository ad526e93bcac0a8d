"""mipp from its wheel in an environment of its own, and an empty folder of somebody's."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Installed:
    """The commands of an environment that has mipp from its wheel, run in `folder`."""

    def __init__(self, place):
        self.folder, self.bin = place / "theirs", place / "venv/bin"
        self.folder.mkdir()
        self.install(place)

    def install(self, place):
        """The wheel of these sources in a new environment, beside the packages of this one."""
        sources = place / "sources"
        sources.mkdir()
        for name in ("mipp", "tasks", "flows"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, sources / name, ignore=ignored)
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copyfile(ROOT / name, sources / name)
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        build = ["--no-deps", "--no-build-isolation", "--no-index"]
        self.call([*pip, "wheel", *build, "--wheel-dir", place, sources])
        self.call([sys.executable, "-m", "venv", "--without-pip", place / "venv"])
        [wheel] = place.glob("*.whl")
        self.call([*pip, "--python", self.bin / "python", "install", *build, wheel])
        [site] = (place / "venv/lib").glob("python*/site-packages")
        (site / "packages.pth").write_text(sysconfig.get_path("purelib"))

    def call(self, command, cwd=None):
        """What a command prints; the sources of this repository are on no path."""
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd or self.folder,
            env={
                **environment,
                "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
                "DVC_NO_ANALYTICS": "1",
                "DO_NOT_TRACK": "1",
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
                "OMP_NUM_THREADS": "1",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def python(self, *arguments):
        return self.call([self.bin / "python", *arguments])
