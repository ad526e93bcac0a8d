"""Criteria that train copies of the weights under a penalty: what it does, and what is left."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracles import build_own, own_images, small_resnet
from torch import nn

from mipp.criteria import CRITERIA, CriterionInput, greg_2, imp_rewind, increg, slimming, ssl
from mipp.criteria.imp import DESCENT as ROUND
from mipp.criteria.shared import driving
from mipp.criteria.shared.calibrated_steps import Descent, train_copies
from mipp.criteria.shared.driving import decay, drive
from mipp.criteria.shared.unit_gates import tensors_of
from mipp.criteria.shared.unit_weights import Makers, norms_of
from mipp.criteria.srp import first_magnitudes
from mipp.criteria.tpp import decorrelate, gram_slope
from mipp.criteria.variational import CENTRE, WIDTH, divergence, train_scales
from mipp.graph import build_graph


def given_for(model, images, labels, loss=None):
    batches = [(images, labels)]
    return CriterionInput(model, build_graph(model, images[:1]), lambda: batches, 0, loss=loss)


def normed(seed=0):
    """A convolution with a batch norm, and images in two batches of 64."""
    torch.manual_seed(seed)
    layers = nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 3)
    model = nn.Sequential(*layers).double().eval()
    return given_for(model, torch.randn(128, 2, 6, 6).double(), torch.randint(3, (128,)))


def resting(*layers, images=128):
    """A network that already says what it is to say, so that its loss is flat."""
    model = nn.Sequential(*layers).double().eval()
    inputs = torch.randn(images, model[0].in_features).double()
    return given_for(model, inputs, model(inputs).detach(), F.mse_loss)


def chain(seed=0):
    torch.manual_seed(seed)
    layers = nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)
    model = nn.Sequential(*layers).double()
    images = torch.randn(128, 5).double()
    return given_for(model, images, (images[:, :3] + images[:, 2:]).argmax(1))


def loss_of(given, tensors):
    ((images, labels),) = given.batches()
    outputs = torch.func.functional_call(given.model, dict(tensors), (images,))
    return float(F.cross_entropy(outputs, labels))


def trained_by_torch(given, steps, after=lambda model, share: None):
    """A copy after steps of torch's own descent, something done to it after each."""
    model = copy.deepcopy(given.model).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    ((images, labels),) = given.batches()
    parts = list(zip(images.split(64), labels.split(64), strict=True))
    for step in range(steps):
        x, y = parts[step % len(parts)]
        optimiser.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimiser.step()
        with torch.no_grad():
            after(model, step)
    return dict(model.named_parameters())


# Descent


def test_copies_are_trained_as_torch_trains_a_network(seed):
    given = normed(seed)
    found = train_copies(given, Descent(passes=1.5))
    for name, expected in trained_by_torch(given, 3).items():
        torch.testing.assert_close(found[name], expected.detach())


def steep(given):
    """The same under a loss that holds on to what the network says now."""
    ((images, _),) = given.batches()
    batches = [(images, given.model(images).detach().argmax(1))]
    return CriterionInput(given.model, given.graph, lambda: batches, 0, loss=twenty_times)


def twenty_times(outputs, labels):
    return 20 * F.cross_entropy(outputs, labels)


def classes(seed, read):
    """Two units for each of three classes, and how much of each unit is read."""
    torch.manual_seed(seed)
    layers = nn.Linear(3, 6, bias=False), nn.ReLU(), nn.Linear(6, 3)
    model = nn.Sequential(*layers).double()
    labels = torch.randint(3, (128,))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(3).repeat(2, 1))
        model[2].weight.copy_(torch.eye(3).repeat(1, 2) * torch.tensor(read))
    images = 2 * F.one_hot(labels, 3) + 0.1 * torch.randn(128, 3).double()
    return given_for(model, images, labels)


def test_tied_weights_are_trained_as_one(seed):
    model = build_own("tied_weights", seed).eval()
    given = given_for(model, own_images(128, seed), torch.randint(3, (128,)))
    found = train_copies(given, Descent(passes=1.5))
    for name, expected in trained_by_torch(given, 3).items():
        torch.testing.assert_close(found[name], expected.detach())


# Network slimming


def test_slimming_thresholds_scales_after_every_step(seed):
    given = normed(seed)
    given.model[1].weight.data.uniform_(0.1, 1)
    less = slimming.SHRINK * float(given.model[1].weight.detach().mean()) / 8

    def soften(model, step):
        scale = model[1].weight.detach().numpy()
        scale[:] = np.sign(scale) * np.maximum(np.abs(scale) - less, 0)

    expected = trained_by_torch(given, 8, soften)["1.weight"].detach().abs().numpy()
    np.testing.assert_allclose(CRITERIA["slimming"](given)["0"], expected, rtol=1e-9)


@pytest.mark.parametrize("norm", [True, False])
def test_slimming_takes_the_scale_of_a_unit_that_nobody_needs(norm):
    given = normed()
    if not norm:
        given.model[1] = nn.Identity()
        given = given_for(given.model, *next(iter(given.batches())))
    given.model[4].weight.data[:, 32:48] = 0  # the third unit; its slope is zero, too
    given = steep(given)
    before, after = CRITERIA["bn-scale"](given)["0"], CRITERIA["slimming"](given)["0"]
    assert before[2] - after[2] == pytest.approx(slimming.SHRINK * before.mean(), rel=0.2)
    assert np.delete(after / before, 2).min() > after[2] / before[2]


# Group lasso


def test_ssl_makes_groups_zero_that_the_loss_does_not_hold():
    torch.manual_seed(0)
    given = resting(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        given.model[0].weight[:3] *= 0.05
        given.model[2].weight[:, :3] = 0
    given = resting(*given.model)
    scores = CRITERIA["ssl"](given)["0"]
    assert scores[:3].tolist() == [0, 0, 0]
    assert scores[3:].min() > 0


def test_ssl_cuts_norms_of_filters_and_channels_by_the_same_amount():
    given = resting(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        given.model[0].weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
        given.model[1].weight.copy_(torch.tensor([[3.0, 0.0], [4.0, 2.0]]))
    given = resting(*given.model)
    flat = CriterionInput(given.model, given.graph, given.batches, 0, loss=nothing)
    filters = np.maximum(np.array([5, 1]) - ssl.SHRINK * 3, 0) / 3
    channels = np.maximum(np.array([5, 2]) - ssl.SHRINK * 3.5, 0) / 3.5
    expected = np.sqrt(filters * channels)
    assert expected[0] > 0 == expected[1]
    np.testing.assert_allclose(CRITERIA["ssl"](flat)["0"], expected, atol=1e-12)


def nothing(outputs, labels):
    return 0 * outputs.sum()


def test_ssl_takes_a_fixed_shortcut_for_no_weight():
    model = small_resnet()
    assert [name for name, _ in model.named_buffers() if name.endswith("placement")]
    given = given_for(model, torch.randn(16, 3, 8, 8).double(), torch.randint(10, (16,)))
    assert all(np.ptp(values) > 0 for values in CRITERIA["ssl"](given).values())


# Incremental regularisation


def test_increments_mirror_each_other_and_pass_zero_where_the_units_to_leave_end():
    found = increg.increments(1001)
    assert found[0] == 1
    assert (np.diff(found) < 0).all()
    number = increg.RATIO * 1001
    slope = np.log(2 / increg.BEND) / number
    centre = -np.log(increg.BEND) / slope
    below = np.arange(int(centre) + 1)
    mirrored = np.interp(2 * centre - below, np.arange(1001), found)
    np.testing.assert_allclose(found[below] + mirrored, 2 * increg.BEND, atol=1e-4)
    assert np.interp(number, np.arange(1001), found) == pytest.approx(0, abs=1e-4)


def test_increg_shrinks_weights_by_the_rank_of_their_norms():
    """On a flat loss ranks stay, and a factor that grows evenly is closed-form."""
    torch.manual_seed(0)
    given = resting(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    flat = CriterionInput(given.model, given.graph, given.batches, 0, loss=nothing)
    weights, factors = increg.train_under_increments(flat)
    before = given.model[0].weight.detach()
    order = before.abs().sum(1).argsort().argsort().numpy()
    grown = np.maximum(increg.STEP * increg.increments(8), 0)[order]
    np.testing.assert_allclose(factors["0"], grown, rtol=1e-9)
    steps = np.arange(1, 9) / 8
    left = np.exp(-grown * steps.sum() / 8)
    np.testing.assert_allclose(weights["0.weight"], before.numpy() * left[:, None], rtol=1e-9)
    np.testing.assert_allclose(CRITERIA["increg"](flat)["0"], (order + 1) / 8)


# Growing regularisation


def test_greg_2_tells_units_apart_by_the_curvature_that_l1_cannot_see():
    """Two units alike; the loss is at its minimum, and steep in the second alone."""
    given = resting(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        given.model[0].weight.copy_(torch.eye(2))
        given.model[1].weight.copy_(torch.tensor([[1.0, 1.0]]))
    inputs = torch.randn(128, 2).double() * torch.tensor([0.1, 6.0])
    given = given_for(given.model, inputs, given.model(inputs).detach(), F.mse_loss)
    assert np.ptp(CRITERIA["l1"](given)["0"]) == 0
    weights = greg_2.train_under_penalty(given)["0.weight"].diagonal()
    assert float(weights[0]) == pytest.approx(np.exp(-greg_2.DECAY), rel=0.02)
    assert float(weights[1]) > 0.7
    scores = CRITERIA["greg-2"](given)["0"]
    assert scores[1] > scores[0]


def driven(given, penalise, units):
    """Parameters after units of the first layer were driven out, and what was left of the loss."""
    there = {name: np.ones(width, bool) for name, width in given.graph.widths.items()}
    leaving = {name: np.zeros(width, bool) for name, width in given.graph.widths.items()}
    leaving["0"][units] = True

    return drive(given, tensors_of(given.model), there, leaving, penalise)


def without(weights, units):
    """The parameters with what reads some units of the first layer at zero."""
    weights = {name: value.clone() for name, value in weights.items()}
    weights["2.weight"][:, units] = 0
    return weights


def test_greg_1_leaves_nothing_of_the_units_and_the_others_make_up_for_them(seed):
    """Each class has a unit and a copy; the copies are driven out, or cut as they are."""
    given = classes(seed, [0.6, 0.6, 0.6, 0.4, 0.4, 0.4])
    copies = [3, 4, 5]
    weights = driven(given, partial(decay, Makers(given)), copies)
    before = {name: value.detach() for name, value in given.model.named_parameters()}
    share = weights["0.weight"].norm(dim=1) / before["0.weight"].norm(dim=1)
    assert float(share[copies].max()) < 0.05
    assert float(share[:3].min()) > 0.9
    assert loss_of(given, without(weights, copies)) < loss_of(given, without(before, copies))
    trained = train_copies(given, driving.DESCENT)
    suddenly = loss_of(given, without(trained, copies)) - loss_of(given, trained)
    gently = loss_of(given, without(weights, copies)) - loss_of(given, weights)
    assert abs(gently) < suddenly / 5


def test_driven_units_leave_lowest_first():
    """On a flat loss the order is that of the norms, which nothing changes."""
    torch.manual_seed(0)
    given = resting(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    flat = CriterionInput(given.model, given.graph, given.batches, 0, loss=nothing)
    expected = CRITERIA["l1"](given)["0"].argsort().tolist()
    for name in ("greg-1", "srp"):
        assert CRITERIA[name](flat)["0"].argsort().tolist() == expected


# Trainability


def test_slope_of_the_gram_matrix_is_that_of_its_masked_square(seed):
    torch.manual_seed(seed)
    rows, going = torch.randn(5, 7).double(), torch.tensor([True, False, False, True, False])
    rows.requires_grad_(True)
    gram = rows @ rows.T
    stay = ~going
    masked = gram * ~(stay[:, None] & stay)
    (slope,) = torch.autograd.grad(masked.square().sum(), rows)
    largest = torch.linalg.eigvalsh(gram)[-1]
    torch.testing.assert_close(gram_slope(rows.detach(), going), slope / 4 / largest.detach())


def correlation(weights, units):
    """Mean absolute cosine between filters that leave and filters that stay."""
    rows = F.normalize(weights["0.weight"], dim=1)
    gram = (rows @ rows.T).abs()
    stay = [unit for unit in range(len(rows)) if unit not in units]
    return float(gram[units][:, stay].detach().mean())


def test_tpp_takes_units_apart_from_those_that_stay_and_plain_l2_does_not(seed):
    given = chain(seed)
    units = [0, 3, 5]
    makers = Makers(given)
    penalties = partial(decay, makers), partial(decorrelate, makers, {"0": [], "2": []})
    plain, apart = (correlation(driven(given, p, units), units) for p in penalties)
    before = correlation(dict(given.model.named_parameters()), units)
    assert plain > 0.95 * before
    assert apart < 0.7 * before


def test_tpp_takes_scale_and_shift_of_units_that_leave():
    given = normed()
    there = {"0": np.ones(6, bool)}
    leaving = {"0": np.arange(6) < 2}
    given.model[1].bias.data.fill_(1.0)
    fixed = tensors_of(given.model)
    norms = {"0": norms_of(given, given.graph.groups["0"])}
    penalise = partial(decorrelate, Makers(given), norms)
    weights = drive(given, fixed, there, leaving, penalise)
    for name in ("1.weight", "1.bias"):
        assert float(weights[name][:2].abs().max()) < 0.05 < float(weights[name][2:].min())


# Aligned streams


class SuperResolution(nn.Module):
    """Twice the size: two residual blocks on a stream, and a shuffle of pixels."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(1, 6, 3, padding=1)
        self.first, self.second = (nn.Conv2d(6, 8, 3, padding=1) for _ in range(2))
        self.third, self.fourth = (nn.Conv2d(8, 6, 3, padding=1) for _ in range(2))
        self.tail = nn.Sequential(nn.Conv2d(6, 4, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, x):
        x = self.head(x)
        x = x + self.third(self.first(x).relu())
        x = x + self.fourth(self.second(x).relu())
        return self.tail(x)


def super_resolution(seed):
    torch.manual_seed(seed)
    small = torch.randn(64, 1, 6, 6).double()
    large = F.interpolate(small, scale_factor=2, mode="bilinear")
    return given_for(SuperResolution().double().eval(), small, large, F.mse_loss)


def test_srp_drives_the_same_channels_of_all_layers_of_a_stream_to_zero(seed):
    given = super_resolution(seed)
    there = {name: np.ones(width, bool) for name, width in given.graph.widths.items()}
    leaving = {name: np.zeros(width, bool) for name, width in given.graph.widths.items()}
    leaving["head"][[1, 4]] = True
    fixed = tensors_of(given.model)
    weights = drive(given, fixed, there, leaving, partial(decay, Makers(given)))
    for layer in ("head", "third", "fourth"):
        share = weights[f"{layer}.weight"].flatten(1).norm(dim=1)
        share = share / fixed[f"{layer}.weight"].flatten(1).norm(dim=1)
        assert float(share[[1, 4]].max()) < 0.1 < 0.5 < float(share[[0, 2, 3, 5]].min())


def test_srp_goes_by_the_first_layer_of_a_stream_and_greg_1_by_their_sum(seed):
    given = super_resolution(seed)
    with torch.no_grad():
        given.model.head.weight[2] *= 0.01
        given.model.third.weight[2] *= 5
    first = first_magnitudes(Makers(given), tensors_of(given.model))["head"]
    np.testing.assert_allclose(first, given.model.head.weight.detach().abs().sum((1, 2, 3)))
    srp, greg = (CRITERIA[name](given)["head"] for name in ("srp", "greg-1"))
    assert srp.argmin() == 2 != greg.argmin()


# Variational pruning


def test_divergence_is_that_of_normals(seed):
    torch.manual_seed(seed)
    mean, log = torch.randn(5).double(), torch.randn(5).double()
    own, about = (torch.distributions.Normal(m, log.exp()) for m in (mean, 0 * mean))
    expected = torch.distributions.kl_divergence(own, about).sum()
    found = divergence({CENTRE + "a": mean, WIDTH + "a": log}, "a")
    torch.testing.assert_close(found, expected)


def test_scale_of_a_unit_that_nobody_needs_falls_towards_zero(seed):
    given = steep(classes(seed, [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]))
    trained = train_scales(given)[CENTRE + "0"]
    assert float(trained[3:].max()) < 0.95
    assert float(trained[3:].max()) < float(trained[:3].min())
    scores = CRITERIA["variational"](given)["0"]
    assert scores[3:].max() < scores[:3].min()


def test_variational_scores_go_by_the_seed():
    given = chain()
    other = CriterionInput(given.model, given.graph, given.batches, 1)
    assert not np.array_equal(*(CRITERIA["variational"](g)["0"] for g in (given, other)))


# Rewinding


def test_rewinding_is_imp_from_the_weights_of_an_early_step(seed):
    given = normed(seed)
    steps = round(imp_rewind.REWIND * 2)
    assert 0 < steps < 2 * ROUND.passes
    early = copy.deepcopy(given.model)
    for name, value in trained_by_torch(given, steps).items():
        early.get_parameter(name).data.copy_(value)
    ours = CRITERIA["imp-rewind"](given)["0"]
    expected = CRITERIA["imp"](CriterionInput(early, given.graph, given.batches, 0))["0"]
    np.testing.assert_array_equal(ours, expected)
    weights = imp_rewind.train_gated(
        given, {"0": np.ones(6, bool)}, Descent(512, imp_rewind.REWIND)
    )
    torch.testing.assert_close(weights["0.weight"], early[0].weight.detach())
