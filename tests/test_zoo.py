"""Networks of the zoo: pruned with all defaults they are right, small and usable.

The catalogue is that of `python -m benchmarks.validation.zoo`, whose page says what passes.
"""

import functools
import warnings
from pathlib import Path

import pytest
import torch
from oracles import assert_zeroing, random_selection

from benchmarks.shared.kept import read_json
from benchmarks.validation.networks import networks
from benchmarks.validation.networks.network import narrow
from benchmarks.validation.zoo import FILE
from benchmarks.validation.zoo_counts import built, doubled
from benchmarks.validation.zoo_network import measure
from benchmarks.validation.zoo_page import CHECKS, PASS, verdict
from mipp.cut import apply_selection
from mipp.graph import build_graph, with_projections
from mipp.inputs import each, shape_of
from mipp.metrics import count_macs, count_params

pytestmark = pytest.mark.xdist_group("zoo")  # one process makes what all need
ROOT = Path(__file__).parents[1]
FAST = (
    "written/CSP",
    "written/1-D WaveNet",
    "written/convolutions and GRU",
)
KEPT = read_json(ROOT / FILE)
PASSES = [name for name, row in KEPT.items() if verdict(row) == PASS]
NETWORKS = [
    *FAST,
    *(pytest.param(name, marks=pytest.mark.slow) for name in PASSES if name not in FAST),
]


@functools.cache
def row_of(name):
    """What the page would say of a network."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the networks' own code, and of its exporter
        return {key: value for part in measure(networks()[name]) for key, value in part.items()}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", NETWORKS)
def test_network_pruned_with_all_defaults_passes(name, check):
    assert row_of(name)[check] is True


@pytest.mark.parametrize("name", FAST)
def test_exported_network_computes_the_same(name):
    assert row_of(name)["export"] is True


@pytest.mark.parametrize("name", NETWORKS)
def test_any_other_selection_is_the_dense_one_with_channels_zeroed(name, seed):
    network = networks()[name]
    inputs = doubled(network.inputs(2))
    example = each(inputs, lambda tensor: tensor[:1])
    model = with_projections(built(network).double(), example)
    graph = build_graph(model, example)
    assert_zeroing(model, graph, random_selection(graph, seed), inputs)


@pytest.mark.parametrize("name", NETWORKS)
def test_costs_of_the_graph_are_those_of_the_pruned_network(name, seed):
    network = networks()[name]
    inputs = network.inputs(1)
    model = with_projections(built(network), inputs)
    graph = build_graph(model, inputs)
    selection = random_selection(graph, seed)
    cut = apply_selection(model, selection, inputs)
    assert graph.params(selection.counts()) == count_params(cut)
    assert graph.macs(selection.counts()) == count_macs(cut, shape_of(inputs))


def test_what_stays_whole_is_named_with_its_reason():
    network = networks()["written/convolutions and GRU"]
    graph = build_graph(built(network), network.inputs(1))
    assert graph.left_whole["recurrent"].category == "kind"
    assert graph.groups.keys().isdisjoint(graph.left_whole)


def test_narrow_networks_are_those_of_that_name_with_fewer_channels():
    def widths(model):
        return [m.out_channels for m in model.modules() if isinstance(m, torch.nn.Conv2d)]

    def build():
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 32, 3),
            torch.nn.Conv2d(32, 32, 3, groups=32),
            torch.nn.Conv2d(32, 16, 1),
        )

    with narrow(8):
        model = build()
    assert widths(model) == [4, 4, 2]
    assert model[0].in_channels == 3
    assert model[1].groups == 4
    assert widths(build()) == [32, 32, 16]
