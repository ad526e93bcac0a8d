"""What the report prints: a few lines, however many layers share a reason."""

import json
import sys

import pytest
import torch
from oracles import Net
from torch import nn

import mipp


def mixing(count):
    """A stream that is pruned, beside it layers of whose channels a softmax is taken."""

    def forward(net, x):
        y = net.stem(x).relu()
        weights = [mix(y).softmax(1).mean((1, 2, 3)) for mix in net.mixes]
        return net.head((net.last(y).relu().mean((2, 3))) * sum(weights)[:, None])

    mixes = nn.ModuleList(nn.Conv2d(8, 4, 1) for _ in range(count))
    layers = {"stem": nn.Conv2d(3, 8, 3), "last": nn.Conv2d(8, 8, 3), "head": nn.Linear(8, 3)}
    return Net(forward, **layers, mixes=mixes).eval()


def lines_of(count):
    torch.manual_seed(0)
    found = mipp.prune(mixing(count), [torch.randn(16, 3, 8, 8)], "ratio:0.5", images=16)
    assert len(found.report.left_whole) == count + 1
    return str(found.report).splitlines()


def test_layers_that_stay_whole_for_one_kind_of_reason_are_one_entry():
    lines = lines_of(12)
    assert sum("left whole" in line for line in lines) == 2
    [place] = [i for i, line in enumerate(lines) if line.startswith("  mixes.* (12) left whole: ")]
    assert lines[place].endswith(
        "an operation computes one value of several of their channels, such as"
    )
    assert lines[place + 1].startswith("    mixes.0: ")
    assert len(lines) == len(lines_of(30))


def test_a_layer_that_stays_whole_alone_is_told_with_its_own_reason():
    assert "  head left whole: feeds the network's output" in lines_of(1)
    assert any(line.startswith("  mixes.0 left whole: ") for line in lines_of(1))


@pytest.mark.parametrize(
    ("count", "said"),
    [(1, "measured on 1 input, too few"), (31, "measured on 31 inputs, too few"), (32, None)],
)
def test_few_calibration_inputs_are_said_to_be_few(count, said):
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    report = mipp.prune(model, torch.randn(count, 6), "ratio:0.5").report
    assert report.inputs == count
    assert ("measured on" in str(report)) == bool(said)
    assert (said or "") in str(report)


def pruned(method="mipp"):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 1), nn.Flatten())
    net.append(nn.Linear(6 * 36, 3))
    return mipp.prune(net, torch.randn(32, 3, 8, 8), "ratio:0.5", method=method)


@pytest.mark.parametrize("method", ["mipp", "l1"])
def test_report_as_values_and_as_a_table_says_what_the_network_has(method):
    found = pruned(method)
    again = json.loads(json.dumps(found.report.to_dict()))
    widths = {group["name"]: (group["width"], group["kept"]) for group in again["groups"]}
    assert widths == {"0": (8, found.model[0].out_channels), "2": (6, found.model[2].out_channels)}
    assert again["params"] == sum(weight.numel() for weight in found.model.parameters())
    assert again["left_whole"]["4"]["category"] == "output"
    assert again["whole"][0]["layers"] == "4"
    table = found.report.to_dataframe().set_index("name")
    assert table.loc["0", "share"] == found.model[0].out_channels / 8
    assert table["information"].isna().all() == (method == "l1")


def test_report_as_a_page_is_whole_and_asks_nothing_of_others():
    page = pruned().report.to_html()
    assert page.startswith("<!DOCTYPE html>")
    assert "http" not in page
    assert "8 → " in page


def test_a_notebook_shows_the_report_of_a_pruned_network():
    found = pruned()
    shown = found._repr_html_()
    assert "<table" in shown
    assert "<html" not in shown


def test_a_table_without_pandas_says_what_to_do(monkeypatch):
    report = pruned("l1").report
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(mipp.MippError, match=r"(?s)pandas.*to_dict"):
        report.to_dataframe()


def test_exported_network_takes_what_calibration_had(tmp_path):
    found = pruned("l1")
    [written] = found.export(tmp_path)
    x = torch.randn(2, 3, 8, 8)
    again = torch.export.load(written.path).module()(x)
    assert torch.allclose(again, found.model.eval()(x), atol=1e-5)
