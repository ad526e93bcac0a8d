"""The wheel, and the wheel of the source archive, work where nothing of this repository lies."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.smallest_run import SMALLEST

ROOT = Path(__file__).parents[2]
COPIED = ("mipp", "tasks", "flows", "pyproject.toml", "README.md", "LICENSE")


def run(*command, cwd):
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """What the archives are made of, apart, since a build leaves files beside it."""
    folder = tmp_path_factory.mktemp("sources")
    for name in COPIED:
        run("cp", "-r", str(ROOT / name), str(folder), cwd=ROOT)
    return folder


def built(kind, sources, folder):
    """An archive of the sources; its build finds setuptools where this test does."""
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(folder)!r}))"
    return folder / run(sys.executable, "-c", code, cwd=sources).splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_archive_is_installed_and_runs_in_a_foreign_folder(kind, sources, tmp_path):
    archive = built(kind, sources, tmp_path)
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    python = str(environment / "bin/python")
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))",
                        cwd=tmp_path).strip())  # fmt: skip
    run(python, "-m", "pip", "uninstall", "--yes", "--quiet", "setuptools", cwd=tmp_path)
    # What mipp needs is that of this environment, and no editable install of it.
    (packages / "shared.pth").write_text(sysconfig.get_path("purelib"))
    install = ("-m", "pip", "install", "--no-deps", "--no-build-isolation", "--quiet")
    run(python, *install, str(archive), cwd=tmp_path)
    home = run(python, "-c", "import mipp; print(mipp.__file__)", cwd=tmp_path).strip()
    assert home == str(packages / "mipp/__init__.py")
    settings = [word for setting in SMALLEST for word in ("--set", setting)]
    said = run(str(environment / "bin/mipp"), "run", "--workdir", "work", *settings, cwd=tmp_path)
    assert "fine-tuned" in said
    assert (tmp_path / "work/report/report.html").is_file()
