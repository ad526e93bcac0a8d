"""Criteria that people bring: by address, under a name of their own, or as they are."""

import numpy as np
import pytest
import torch
from torch import nn

import mipp
from mipp.cli import main
from mipp.config import load_params
from mipp.criteria import CRITERIA, register_criterion
from mipp.errors import ConfigError
from mipp.experiments.points import expand
from mipp.experiments.spec import Experiment
from mipp.selection.selection import Selection
from tests.brought_modules import module_brought

OWN = """
import numpy as np

def last_come(given):
    return {name: np.arange(w, dtype=float) for name, w in given.graph.widths.items()}

class Methods:
    first_come = staticmethod(lambda given: {n: -v for n, v in last_come(given).items()})

def needs_two(given, other):
    return {}

words = "none"
"""


@pytest.fixture
def brought(tmp_path):
    with module_brought(tmp_path, "own_scores", OWN) as folder:
        yield folder


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def pruned_by(net, method):
    return mipp.prune(net, [torch.randn(64, 4)], "ratio:0.5", method=method, repair="none")


def last_units(selection):
    return all(
        kept.tolist() == list(range(selection.width[group] - len(kept), selection.width[group]))
        for group, kept in selection.kept.items()
    )


def test_address_names_a_criterion(brought, net):
    selection = pruned_by(net, "own_scores:last_come").selection
    assert last_units(selection)
    assert selection.method == "own_scores:last_come"
    assert pruned_by(net, "own_scores:Methods.first_come").selection.kept["0"].tolist()[0] == 0


def test_registered_criterion_is_found_by_its_name(net, monkeypatch):
    monkeypatch.setattr(CRITERIA, "_rows", dict(CRITERIA._rows))

    @register_criterion("last-come")
    def score(given):
        return {name: np.arange(w, dtype=float) for name, w in given.graph.widths.items()}

    selection = pruned_by(net, "last-come").selection
    assert last_units(selection)
    assert selection.method == "last-come"


def test_function_itself_is_a_method(net):
    def score(given):
        return {name: np.arange(w, dtype=float) for name, w in given.graph.widths.items()}

    selection = pruned_by(net, score).selection
    assert last_units(selection)
    assert selection.method.endswith("<locals>.score")


@pytest.mark.parametrize("name", ["mipp", "l1"])
def test_names_of_methods_are_taken(name):
    with pytest.raises(ConfigError, match=rf"method '{name}' cannot be registered.*is taken"):
        register_criterion(name)(lambda given: {})


@pytest.mark.parametrize(
    ("method", "match"),
    [
        ("own_score:last_come", r"\(method\).*there is no module own_score"),
        ("own_scores:last_cone", r"has no 'last_cone'.*did you mean last_come"),
        ("own_scores:needs_two", r"expected a function of a .*CriterionInput alone"),
        ("own_scores:words", r"expected a function of a .*CriterionInput, got a str"),
        ("nothing", r"'nothing' \(method\) is unknown; .*mipp, mrmr.*package\.module"),
    ],
)
def test_what_cannot_be_a_criterion_is_refused(brought, net, method, match):
    with pytest.raises(ConfigError, match=f"(?s){match}"):
        pruned_by(net, method)


def test_pipeline_takes_a_criterion_by_its_address(brought, tmp_path, capsys):
    arguments = [
        "train.epochs=0", "finetune.epochs=0", "data.calibration=64", "data.limit=64",
        "extract.rows=64", "evaluate.export=[]", "evaluate.latency_repeats=1",
        "choose.method=own_scores:last_come", "choose.budget=ratio:0.5", "prune.rows=64",
    ]  # fmt: skip
    overrides = [part for text in arguments for part in ("--set", text)]
    assert main(["run", "--workdir", str(tmp_path / "work"), "--quiet", *overrides]) == 0
    text = (tmp_path / "work/choose/selection.json").read_text()
    assert last_units(Selection.from_json(text))


def test_sweep_takes_a_criterion_by_its_address(brought):
    experiment = Experiment(title="x", methods=("mipp", "own_scores:last_come"), seeds=(0,))
    mine = expand(experiment)[1]
    assert mine.params.choose.method == "own_scores:last_come"
    assert ":" not in mine.name
    assert mine.key() != expand(experiment, ["choose.min_channels=2"])[1].key()
    assert mine.key() == expand(experiment, ["choose.worth=nats"])[1].key()


def test_every_criterion_has_a_file_of_its_name():
    for name in CRITERIA:
        module = f"mipp.criteria.{name.replace('-', '_')}"
        assert CRITERIA.address(name) == f"{module}:score_{name.replace('-', '_')}"
        assert CRITERIA[name].__module__ == module


def test_overrides_take_an_address():
    assert load_params(overrides=["choose.method=a.b:c"]).choose.method == "a.b:c"
