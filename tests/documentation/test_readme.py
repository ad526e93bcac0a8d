"""The README's code runs as it stands there, and its numbers are those of the pages it names."""

import re

import numpy as np
import pytest
import torch
from torch import nn

import mipp
from mipp.budget import parse_budget
from mipp.config import load_params
from mipp.report.table import HEADER
from tests.documented import ROOT, blocks, run_page, run_shell

README = ROOT / "README.md"
PAGES = {
    "ResNet-20, half of the MACs": ("accuracy.md", "distilled.md", "repairing.md"),
    "ResNet-20, 0.3 of the MACs": ("repairing.md",),
    "compact transformer, half of the MACs": ("repairing.md",),
    "MobileNetV2, 0.6 of the MACs": ("repairing.md",),
}
MY_NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 30 * 30, 10))
"""


class MyNet(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 8, 3),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 3),
        )


def what_a_reader_has():
    torch.manual_seed(0)
    labelled = [(torch.randn(32, 3, 8, 8), torch.randint(3, (32,))) for _ in range(2)]
    table = np.random.default_rng(0).normal(size=(60, 12))
    names = {"model": MyNet(), "loader": labelled, "labelled": labelled, "MyNet": MyNet}
    return names | {"x": table, "y": (table[:, 0] > 0).astype(int)}


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """The names that a reader has after the README's Python, run in a folder of its own."""
    names = what_a_reader_has()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("readme"))
        run_page(README, names, ("python",))
        names["again"] = mipp.load("net.safetensors", build=MyNet)
    return names


def test_its_python_runs_and_what_is_saved_is_read_again(read):
    x = torch.randn(4, 3, 8, 8)
    assert torch.equal(read["again"](x), read["pruned"].model.eval()(x))
    assert read["selector"].get_support().sum() == 10


@pytest.mark.slow
def test_its_commands_run(read, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_net.py").write_text(MY_NET)
    [commands] = [code for language, code in blocks(README) if language == "bash"]
    run_shell("mipp train --workdir dense\ncp dense/train/model.safetensors net.safetensors")
    run_shell(commands)
    assert (tmp_path / "small.safetensors").exists()
    assert (tmp_path / "work2/report/report.html").exists()


def test_its_numbers_are_those_of_the_pages_it_names():
    text = README.read_text()
    table = text[text.index("| without training") : text.index("Percent of 10,000")]
    for line in table.splitlines()[2:]:
        if not line:
            continue
        what, ours, rival, *_ = (cell.strip() for cell in line.strip("|").split("|"))
        pages = "".join((ROOT / "docs" / page).read_text() for page in PAGES[what])
        numbers = re.findall(r"\d+\.\d\d", ours + rival)
        assert len(numbers) >= 2
        assert [number for number in numbers if number not in pages] == []


def test_its_output_has_the_form_of_a_runs():
    [shown] = re.findall(r"```text\n(network .*?)```", README.read_text(), re.DOTALL)
    assert re.split(r"\s{2,}", shown.splitlines()[0]) == list(HEADER)


def test_every_budget_and_parameter_that_it_names_is_taken():
    text = README.read_text()
    kinds = "macs|params|latency|ratio|drop|nats|confidence"
    budgets = set(re.findall(rf"((?:{kinds}):[\d.]+)", text))
    assert {budget.partition(":")[0] for budget in budgets} >= {"macs", "drop", "nats"}
    for budget in budgets:
        assert parse_budget(budget).value == float(budget.partition(":")[2])


def test_every_row_of_parameters_is_taken_together():
    rows = [
        re.findall(r"--set '?([^` ']+=[^` ']+)", line) for line in README.read_text().splitlines()
    ]
    taken = [load_params(None, row) for row in rows if row and row != ["section.key=value"]]
    assert len(taken) > 6
