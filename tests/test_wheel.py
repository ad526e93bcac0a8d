"""The wheel holds the library and nothing about this repository: no claim, no result, no page."""

import tomllib
from pathlib import Path

import pytest
from setuptools import find_packages

from tests.test_ladder import imported

ROOT = Path(__file__).parents[1]
OWN = {"benchmarks", "experiments", "docs", "tests"}  # top-level folders
PACKAGES = ("mipp", "tasks", "flows")
OF_EVIDENCE = {"claims", "evidence", "benchmarks"}


@pytest.fixture(scope="module")
def packaged():
    """Module -> its file: all of the packages that the build is told to find."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = find_packages(str(ROOT), **settings["packages"]["find"])
    files = [path for name in packages for path in ROOT.joinpath(*name.split(".")).glob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files}


def test_every_module_of_the_ladder_is_packaged_and_nothing_else(packaged):
    modules = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    assert sorted(packaged.values()) == sorted(modules)


def test_every_file_beside_the_modules_is_packaged():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packaged = {f for p in settings["package-data"]["mipp"] for f in (ROOT / "mipp").glob(p)}
    files = {file for file in (ROOT / "mipp").rglob("*") if file.is_file()}
    assert {file for file in files if file.suffix not in (".py", ".pyc")} == packaged


def test_no_packaged_module_is_about_this_repositorys_evidence(packaged):
    assert [name for name in packaged if OF_EVIDENCE & set(name.split("."))] == []


def test_no_packaged_module_imports_what_is_not_packaged(packaged):
    wrong = {
        name: found
        for name, path in packaged.items()
        if (found := {n.partition(".")[0] for n in imported(path.read_text())} & OWN)
    }
    assert wrong == {}


def test_no_packaged_module_reads_this_repositorys_results(packaged):
    kept = ("experiments/results", "benchmarks/results", "docs/")
    assert [
        name for name, path in packaged.items() if any(k in path.read_text() for k in kept)
    ] == []


def test_the_changelogs_first_section_is_of_this_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    assert version in next(line for line in lines if line.startswith("## "))
