"""Controls have the widths of what they control, and nothing else of it."""

import math

import numpy as np
import pytest
import torch
from oracles import build_small, graph_of, images_for, random_selection
from torch import nn

from mipp.cut import apply_selection
from mipp.errors import ModelError
from mipp.layers import layer_of
from mipp.selection.controls import random_units, reinitialised
from mipp.selection.selection import Selection, keep_all


def test_random_units_keep_the_widths_and_change_the_units(seed):
    selection = random_selection(graph_of("resnet20"), seed)
    control = random_units(selection, seed + 1)
    assert control.counts() == selection.counts()
    assert control.width == selection.width
    assert any(not np.array_equal(control.kept[g], selection.kept[g]) for g in selection.kept)
    apply_selection(build_small("resnet20"), control, images_for("resnet20", 1))


def test_random_units_of_a_control_have_a_name_of_their_own():
    selection = keep_all({"layer": 3}, "mipp")
    names = {selection.method}
    for _ in range(2):
        selection = random_units(selection, 0)
        names.add(selection.method)
    assert len(names) == 3


def test_random_units_depend_on_the_seed_alone():
    selection = Selection({"b": np.arange(50), "a": np.arange(9)}, {"b": 99, "a": 99}, "l1")
    turned = Selection(dict(reversed(selection.kept.items())), selection.width, "l1")
    first, same, other = (random_units(*a) for a in ((selection, 0), (turned, 0), (selection, 1)))
    assert all(np.array_equal(first.kept[g], same.kept[g]) for g in "ab")
    assert not np.array_equal(first.kept["b"], other.kept["b"])


def test_every_unit_is_as_likely_as_any_other():
    selection = Selection({"layer": np.array([0, 1])}, {"layer": 5}, "l1")
    times = np.zeros(5)
    for seed in range(500):
        times[random_units(selection, seed).kept["layer"]] += 1
    assert np.abs(times - 200).max() < 5 * math.sqrt(500 * 0.4 * 0.6)  # five deviations


def test_random_units_leave_an_emptied_group_empty():
    selection = Selection({"layer": np.array([], np.int64)}, {"layer": 5}, "l1")
    assert len(random_units(selection, 0).kept["layer"]) == 0


def test_reinitialised_network_has_new_parameters_and_fresh_statistics(seed):
    model = build_small("resnet20", seed=seed)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fresh = reinitialised(model, seed)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    for name, parameter in fresh.named_parameters():
        assert parameter.shape == before[name].shape
        assert not torch.isin(parameter, before[name]).all(), name
    assert fresh.bn1.running_mean.eq(0).all()
    assert fresh.bn1.running_var.eq(1).all()


def test_reinitialised_weights_are_drawn_as_the_layer_says(seed):
    fresh = reinitialised(build_small("resnet20", seed=seed), seed)
    weight = fresh.layer3[1].conv1.weight.detach()
    bound = 1 / math.sqrt(64 * 9)  # uniform, torch's default
    assert weight.abs().max() <= bound
    assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.02)


def test_reinitialised_weights_depend_on_the_seed_alone():
    model = build_small("lenet5")
    state = torch.random.get_rng_state()
    first, same, other = reinitialised(model, 0), reinitialised(model, 0), reinitialised(model, 1)
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, parameter in first.state_dict().items():
        assert torch.equal(parameter, same.state_dict()[name])
        assert not torch.equal(parameter, other.state_dict()[name])


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "heads cut"])
def test_attention_is_drawn_anew_with_its_projections(cut):
    torch.manual_seed(1)
    layer = nn.TransformerEncoderLayer(8, 4, 16, batch_first=True)
    if cut:
        features = layer_of(layer.self_attn).outputs.each()
        layer_of(layer.self_attn).cut("outputs", features[[1, 3]].ravel())
    drawn = reinitialised(layer, 0).self_attn
    bound = math.sqrt(6 / sum(drawn.in_proj_weight.shape))  # Xavier
    assert drawn.in_proj_weight.abs().max() <= bound
    assert not torch.isin(drawn.in_proj_weight, layer.self_attn.in_proj_weight).any()
    assert not torch.isin(drawn.out_proj.weight, layer.self_attn.out_proj.weight).any()
    assert drawn.in_proj_bias.eq(0).all()
    assert drawn.out_proj.bias.eq(0).all()


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))


def test_module_that_cannot_be_drawn_anew_is_named():
    model = nn.Sequential(nn.Linear(3, 3), Scaled())
    with pytest.raises(ModelError, match=r"'1' \(Scaled\)[\s\S]*draws scale"):
        reinitialised(model, 0)
