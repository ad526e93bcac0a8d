"""The first lines of a package say which file answers what, so that its listing can be read."""

import ast
import re
from pathlib import Path

import pytest

PACKAGES = Path(__file__).parents[2] / "mipp"
MAPPED = (
    *("checkpoint", "comparing", "config", "data", "disk", "experiments", "latency", "process"),
    *("pruning", "report", "selection", "stages", "training", "information/gaussian"),
)


@pytest.mark.parametrize("package", MAPPED)
def test_map_of_a_package_names_every_file_and_no_other(package):
    folder = PACKAGES / package
    said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert files - set(re.findall(r"\w+", said)) == set()
    assert set(re.findall(r"`(\w+)`", said)) - files <= {"Pruner", "run"}
