"""Estimators that people bring: by address, under a name of their own, or by their settings."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

import mipp
from mipp.cli import main
from mipp.config import load_params
from mipp.errors import ConfigError
from mipp.information import estimators
from mipp.information.estimators import ESTIMATORS, estimator_of, register_estimator
from mipp.settings import Gaussian
from mipp.stages.values import estimator_settings
from tests.brought_modules import module_brought

OWN = """
from dataclasses import dataclass, replace
from mipp.information.estimators import ESTIMATORS

@dataclass(frozen=True)
class Coarse:
    ridge: float = 1e-3
    resolution: float = 3.0
    repeats: int = 5

ESTIMATOR = replace(ESTIMATORS["gaussian"], settings=Coarse)
SHARED = replace(ESTIMATORS["reconstruction"])
words = "none"
"""


@pytest.fixture(autouse=True)
def tables_of_their_own(monkeypatch):
    monkeypatch.setattr(ESTIMATORS, "_rows", dict(ESTIMATORS._rows))
    monkeypatch.setattr(estimators, "_NAMES", dict(estimators._NAMES))


@pytest.fixture
def brought(tmp_path):
    with module_brought(tmp_path, "own_estimates", OWN) as folder:
        yield folder


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


IMAGES = torch.randn(256, 4, generator=torch.Generator().manual_seed(1))


def kept(selection):
    return {group: channels.tolist() for group, channels in selection.kept.items()}


@dataclass(frozen=True)
class Coarse:
    resolution: float = 3.0
    ridge: float = 1e-3


def coarse():
    return replace(ESTIMATORS["gaussian"], settings=Coarse)


def by_the_closed_form(net):
    """In the order that an estimator of one's own has where nothing is said."""
    pruner = mipp.Pruner(net, [IMAGES])
    ranking = pruner.rank(mipp.Mipp(Gaussian(resolution=3.0), order="mi"))
    return kept(pruner.plan("ratio:0.5", ranking).selection)


def test_address_names_an_estimator(brought, net):
    named = mipp.prune(net, [IMAGES], "ratio:0.5", estimator="own_estimates:ESTIMATOR")
    assert kept(named.selection) == by_the_closed_form(net)
    assert named.selection.provenance["estimator"] == "own_estimates:ESTIMATOR"


def test_registered_estimator_is_found_by_its_name_and_by_its_settings(net):
    registered = register_estimator("coarse")(coarse())
    assert estimator_of(Coarse()) == ("coarse", registered)
    named = mipp.prune(net, [IMAGES], "ratio:0.5", estimator="coarse")
    pruner = mipp.Pruner(net, [IMAGES])
    plan = pruner.plan("ratio:0.5", pruner.rank(mipp.Mipp(Coarse())))
    assert kept(named.selection) == kept(plan.selection) == by_the_closed_form(net)


def test_settings_derived_from_the_closed_forms_are_not_taken_for_them():
    @dataclass(frozen=True)
    class Derived(Gaussian):
        pass

    assert estimator_of(Derived())[0] == "gaussian"
    registered = register_estimator("derived")(replace(coarse(), settings=Derived))
    assert estimator_of(Derived()) == ("derived", registered)
    assert estimator_of(Gaussian())[0] == "gaussian"


def test_section_sets_what_the_settings_have_by_name(brought):
    given = ["choose.estimator=own_estimates:ESTIMATOR", "estimate.ridge=0.5"]
    settings = estimator_settings(load_params(overrides=given))
    assert (settings.ridge, settings.resolution) == (0.5, 0.3)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("own_estimate:ESTIMATOR", r"\(estimator\).*there is no module own_estimate"),
        ("own_estimates:ESTIMATE", r"has no 'ESTIMATE'.*choose from .*ESTIMATOR"),
        ("own_estimates:words", r"expected a mipp\.information\.estimators\.Estimator, got a str"),
        ("own_estimates:SHARED", r"has the settings of 'reconstruction'.*class of its own"),
        ("gausian", r"'gausian' \(estimator\) is unknown; did you mean gaussian"),
    ],
)
def test_what_cannot_be_an_estimator_is_refused(brought, net, name, match):
    with pytest.raises(ConfigError, match=f"(?s){match}"):
        mipp.prune(net, [IMAGES], estimator=name)


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        ("gaussian", {}, "the name is taken"),
        ("ours", {"settings": Gaussian}, "has the settings of 'gaussian'"),
        ("ours", {"settings": dict}, "expected a dataclass of its settings"),
    ],
)
def test_what_cannot_be_registered_is_refused(name, change, match):
    with pytest.raises(ConfigError, match=match):
        register_estimator(name)(replace(coarse(), **change))


def test_pipeline_takes_an_estimator_by_its_address(brought, tmp_path):
    arguments = [
        "train.epochs=0", "finetune.epochs=0", "data.calibration=64", "data.limit=64",
        "extract.rows=64", "evaluate.export=[]", "evaluate.latency_repeats=1",
        "choose.estimator=own_estimates:ESTIMATOR", "choose.budget=ratio:0.5", "prune.rows=64",
    ]  # fmt: skip
    overrides = [part for text in arguments for part in ("--set", text)]
    assert main(["run", "--workdir", str(tmp_path / "work"), "--quiet", *overrides]) == 0
    text = (tmp_path / "work/choose/selection.json").read_text()
    assert "own_estimates:ESTIMATOR" in text
