"""Examples run as they stand, each in a folder of its own, and end in what they say."""

import json
import runpy
import sys

import pytest

from mipp.vision import torchvision  # noqa: F401  beside a torch for CPUs alone
from tests.documented import ROOT

EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("*.py"))
SAID = {
    "own_pipeline": "report: own/report/report.html",
    "ratios_in_mlflow": "dense:",
    "resnet18": "MACs",
    "unet": "up: 16 -> 16",
    "vit": "Distill: outputs differ by",
}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of libraries that mipp does not use
@pytest.mark.parametrize("script", SCRIPTS)
def test_example_runs(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"examples/{script}.py"])
    monkeypatch.syspath_prepend(EXAMPLES)
    try:
        runpy.run_path(str(EXAMPLES / f"{script}.py"), run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise
    assert SAID[script] in capsys.readouterr().out


@pytest.mark.slow
def test_cells_of_the_notebook_run():
    cells = json.loads((EXAMPLES / "prune_your_network.ipynb").read_text())["cells"]
    names = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert names["smaller"](names["images"]).shape == (len(names["images"]), 4)
    assert names["share"] <= 0.5


def test_the_notebook_holds_no_results():
    cells = json.loads((EXAMPLES / "prune_your_network.ipynb").read_text())["cells"]
    assert not any(cell.get("outputs") for cell in cells)


def test_every_example_says_how_it_is_run():
    for script in SCRIPTS:
        assert f"python examples/{script}.py" in (EXAMPLES / f"{script}.py").read_text()
