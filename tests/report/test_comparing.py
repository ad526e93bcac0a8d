"""Two pruned networks side by side: every number against what was written, or counted by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import mipp
from mipp.cli import main
from mipp.errors import ConfigError, WorkdirError
from tests.report.conftest import METRICS, Workdir


@pytest.fixture(scope="module")
def pruned():
    """A network of two hidden layers at half of its units."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    return mipp.prune(net, x, "ratio:0.5", method="l1")


def keeping(pruned, method="l1", **kept):
    """The same with other kept units: layer0=[...], layer2=[...]."""
    width = {"0": 6, "2": 4}
    arrays = {name: np.array(kept[f"layer{name}"]) for name in width}
    provenance = {"budget": "ratio:0.5", "seed": "0"}
    return replace(pruned, selection=mipp.Selection(arrays, width, method, provenance))


@pytest.fixture
def runs(tmp_path):
    """Two work directories on paper: the second has another budget, ratio and accuracy."""
    first, second = Workdir(tmp_path / "a"), Workdir(tmp_path / "b")
    second.params["choose"]["budget"] = "macs:0.3"
    second.metrics |= {"accuracy_finetuned": 0.90, "macs": 3000}
    return first.write(), second.write()


def test_agreement_is_the_jaccard_index_of_the_kept_units(pruned):
    """{0, 1, 2} and {1, 2, 3}: 2 of 4; {0} and {0, 1}: 1 of 2; of all: 3 of 6."""
    first = keeping(pruned, layer0=[0, 1, 2], layer2=[0])
    second = keeping(pruned, layer0=[1, 2, 3], layer2=[0, 1])
    found = mipp.compare(first, second)
    assert [group.agreement for group in found.groups] == [2 / 4, 1 / 2]
    assert found.agreement == 3 / 6
    assert [group.kept for group in found.groups] == [(3, 3), (1, 2)]


def test_settings_that_differ_are_told_and_no_others(pruned):
    units = {"layer0": [0, 1, 2], "layer2": [0, 1]}
    first, second = keeping(pruned, **units), keeping(pruned, method="taylor", **units)
    assert mipp.compare(first, second).settings == {"method": ("l1", "taylor")}
    assert mipp.compare(first, first).settings == {}
    assert "no setting differs" in str(mipp.compare(first, first))


def test_numbers_of_python_are_those_of_the_report(pruned):
    numbers = mipp.compare(pruned, pruned).numbers
    assert numbers["params"] == (sum(p.numel() for p in pruned.model.parameters()),) * 2
    assert numbers["params_dense"] == (4 * 6 + 6 + 6 * 4 + 4 + 4 * 2 + 2,) * 2
    assert numbers["macs_dense"] == (4 * 6 + 6 * 4 + 4 * 2,) * 2
    assert numbers["units removed"] == (0.5, 0.5)


def test_runs_differ_in_what_was_written(runs):
    found = mipp.compare(*runs)
    assert found.names == tuple(map(str, runs))
    assert found.settings == {"choose.budget": ("macs:0.5", "macs:0.3")}
    assert found.numbers["accuracy, finetuned"] == (METRICS["accuracy_finetuned"], 0.90)
    assert found.numbers["accuracy, dense"] == (0.95, 0.95)
    assert found.numbers["macs"] == (5000, 3000)
    assert found.numbers["latency, share of dense"] == (0.5, 0.5)
    assert "accuracy, distilled" not in found.numbers
    assert found.agreement == 1


def test_run_beside_python_shows_what_either_has(runs, pruned):
    found = mipp.compare(runs[0], keeping(pruned, layer0=[0, 1, 2], layer2=[0, 1]))
    assert found.settings["method"] == ("mipp", "l1")
    assert found.numbers["params"][0] == METRICS["params"]
    assert found.numbers["accuracy, refit"] == (0.90, None)
    assert found.agreement is None
    assert [group.kept for group in found.groups][-2:] == [(None, 3), (None, 2)]


def test_command_prints_the_tables_or_one_line_of_json(runs, capsys):
    assert main(["compare", *map(str, runs)]) == 0
    said = capsys.readouterr().out
    lines = [line.split() for line in said.splitlines()]
    assert ["choose.budget", "macs:0.5", "macs:0.3"] in lines
    assert ["MACs", "5,000", "3,000", "-40.0", "%"] in lines
    assert ["accuracy,", "finetuned", "%", "94.00", "90.00", "-4.00"] in lines
    assert ["fc1", "4", "2", "2", "100.0"] in lines
    assert main(["compare", *map(str, runs), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == mipp.compare(*runs).to_dict()


def test_two_of_one_name_are_told_apart(pruned):
    assert mipp.compare(pruned, pruned).names == ("l1 at ratio:0.5", "l1 at ratio:0.5 (2)")


def test_what_is_no_pruned_network_is_refused_with_its_mend(pruned, tmp_path):
    with pytest.raises(ConfigError, match="got a Linear; pass pruned itself"):
        mipp.compare(pruned, nn.Linear(2, 2))
    with pytest.raises(WorkdirError, match="run `mipp run"):
        mipp.compare(tmp_path, pruned)
