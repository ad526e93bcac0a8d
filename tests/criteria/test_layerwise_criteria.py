"""Criteria that go by what layers make of their units: damage, shares, slopes, classifiers."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mipp.criteria import CRITERIA, CriterionInput, aofp, ccp, dcp, isometry, pfp
from mipp.criteria.shared.contributions import contribution_grams
from mipp.graph import build_graph


def given_for(model, images, labels, loss=None):
    batches = list(zip(images.split(40), labels.split(40), strict=True))
    return CriterionInput(model, build_graph(model, images[:1]), lambda: batches, 0, loss=loss)


def chain(seed=0):
    torch.manual_seed(seed)
    layers = nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.ReLU(), nn.Flatten()
    model = nn.Sequential(*layers, nn.Linear(16, 3)).double()
    return given_for(model, torch.randn(60, 2, 6, 6).double(), torch.randint(3, (60,)))


def two_layers(first, second):
    """Linear layers with these weights, and ReLU between."""
    layers = [nn.Linear(len(w[0]), len(w), bias=False).double() for w in (first, second)]
    with torch.no_grad():
        for layer, w in zip(layers, (first, second), strict=True):
            layer.weight.copy_(torch.as_tensor(w))
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])


def order_of(scores):
    return np.argsort(scores, kind="stable").tolist()


def joined(given):
    return tuple(map(torch.cat, zip(*given.batches(), strict=True)))


# Approximated oracle


@pytest.mark.parametrize("masked", [1, 2, 3])
def test_mean_damage_is_that_of_all_masks(masked, seed):
    parts = np.random.default_rng(seed).normal(size=(7, 6))  # what each unit gives to 7 outputs
    found = aofp.mean_damage(parts.T @ parts, masked)
    for unit in range(6):
        masks = [m for m in itertools.combinations(range(6), masked) if unit in m]
        damages = [(parts[:, list(mask)].sum(1) ** 2).sum() for mask in masks]
        assert found[unit] == pytest.approx(np.mean(damages), rel=1e-12)


def test_damage_is_the_change_of_the_next_layer_when_units_are_masked(seed):
    given = chain(seed)
    images, _ = joined(given)
    with torch.no_grad():
        hidden = given.model[:2](images)
        after = given.model[2]
        masked = hidden.clone()
        masked[:, [1, 3]] = 0
        expected = (after(hidden) - after(masked)).square().mean((0, 2, 3)).sum()
    gram = contribution_grams(given)["0"]
    assert gram[np.ix_([1, 3], [1, 3])].sum() == pytest.approx(float(expected), rel=1e-9)


def test_aofp_finds_units_that_undo_each_other_where_one_alone_is_less():
    """Contributions of two outputs: the first two units cancel, the third is least by itself."""
    parts = np.array([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.9, 3.0]])
    model = two_layers(np.eye(4), parts)
    given = given_for(model, torch.ones(60, 4).double(), torch.zeros(60).long())
    assert order_of(CRITERIA["thinet"](given)["0"])[0] == 2
    scores = CRITERIA["aofp"](given)["0"]
    assert order_of(scores)[0] in (0, 1)
    whole = (parts.sum(1) ** 2).sum()
    assert scores.min() == pytest.approx(1 / whole)


def test_aofp_of_units_that_do_not_overlap_is_their_share_of_what_is_left():
    parts = np.diag([2.0, 1.0, 3.0, 1.5])
    given = given_for(
        two_layers(np.eye(4), parts), torch.ones(60, 4).double(), torch.zeros(60).long()
    )
    energies = np.diag(parts) ** 2
    left = [energies[energies >= energy].sum() for energy in energies]
    np.testing.assert_allclose(CRITERIA["aofp"](given)["0"], energies / left, rtol=1e-8)


# Collaboration


def test_expansion_has_the_slopes_of_gates_and_their_mean_products(seed):
    given = chain(seed)
    images, labels = joined(given)
    with torch.no_grad():
        hidden, columns = given.model[:2](images), []
        for unit in range(5):
            losses = []
            for factor in (1 + 1e-5, 1 - 1e-5):
                scaled = hidden.clone()
                scaled[:, unit] *= factor
                losses.append(F.cross_entropy(given.model[2:](scaled), labels, reduction="none"))
            columns.append((losses[0] - losses[1]) / 2e-5)
    slopes = torch.stack(columns, 1).numpy()
    slope, curvature = ccp.expansions(given)["0"]
    np.testing.assert_allclose(slope, slopes.mean(0), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(curvature, slopes.T @ slopes / 60, rtol=1e-6, atol=1e-9)


def test_curvature_is_the_hessian_of_cross_entropy_where_the_network_is_right_on_average():
    """Labels as often as the network says: then products of slopes are the Gauss-Newton form."""
    model = two_layers(np.eye(2), [[np.log(3), 0.5], [0.0, 0.5]])
    images = torch.eye(2).double()[[0, 0, 0, 0, 1, 1]]
    given = given_for(model, images, torch.tensor([0, 0, 0, 1, 0, 1]))

    def loss(gates):
        outputs = model[2](model[:2](images) * gates)
        return F.cross_entropy(outputs, joined(given)[1])

    hessian = torch.autograd.functional.hessian(loss, torch.ones(2).double())
    slope, curvature = ccp.expansions(given)["0"]
    np.testing.assert_allclose(curvature, hessian, atol=1e-12)
    np.testing.assert_allclose(slope, 0, atol=1e-12)


def change_without(slope, curvature, left):
    """The expansion's change of the loss when these channels have left."""
    gone = np.isin(np.arange(len(slope)), list(left)).astype(float)
    return gone @ curvature @ gone / 2 - slope @ gone


def test_channels_that_collaborate_leave_together_as_enumeration_says():
    """The first two undo each other; each alone costs more than the third does."""
    parts = np.array([[2.0, -2.0, 1.0, 3.0], [0.1, 0.0, 1.0, -1.0]])
    slope, curvature = np.array([0.3, -0.3, 0.0, 0.0]), parts.T @ parts
    order = ccp.leaving_order(slope, curvature)
    best = [
        min(
            itertools.combinations(range(4), size),
            key=lambda left: change_without(slope, curvature, left),
        )
        for size in range(1, 4)
    ]
    assert best[2] == (0, 1, 2)
    assert sorted(order[:3]) == [0, 1, 2]
    for size in (1, 2, 3):
        *before, last = order[:size]
        changes = {
            c: change_without(slope, curvature, [*before, c]) for c in range(4) if c not in before
        }
        assert last == min(changes, key=changes.__getitem__)


# Provable pruning


def test_shares_are_those_of_every_output_and_sign(seed):
    rng = np.random.default_rng(seed)
    x, weights = rng.normal(size=(6, 4, 3)), rng.normal(size=(2, 4, 3))
    expected = np.zeros(4)
    for sign, side in itertools.product((1, -1), repeat=2):
        inputs, positive = np.maximum(sign * x, 0), np.maximum(side * weights, 0)
        for row, weight in itertools.product(inputs, positive):
            parts = (row * weight).sum(1)
            if parts.any():
                expected = np.maximum(expected, parts / parts.sum())
    found = pfp.largest_shares(torch.from_numpy(x), torch.from_numpy(weights))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def samples_for(error, total):
    """How many units to sample for a relative error, by Bernstein's inequality."""
    return pfp.LOG_FAILURES * total * (6 + 2 * error) / (3 * error**2)


@pytest.mark.parametrize("error", [0.3, 0.6])
def test_sampled_units_keep_every_output_to_the_error(error):
    """Over 400 samples, outputs miss by more than the error no more often than promised."""
    rng = np.random.default_rng(0)
    x, weights = rng.exponential(size=(20, 30, 1)), rng.exponential(size=(4, 30, 1))
    sensitivity = pfp.largest_shares(torch.from_numpy(x), torch.from_numpy(weights)).numpy()
    parts = np.einsum("ncb,ocb->noc", x, weights)
    chances = sensitivity / sensitivity.sum()
    number = int(np.ceil(samples_for(error, float(sensitivity.sum()))))
    missed = []
    for _ in range(400):
        drawn = rng.choice(30, size=number, p=chances)
        estimate = (parts[..., drawn] / chances[drawn]).mean(2)
        missed.append(np.abs(estimate / parts.sum(2) - 1) > error)
    assert np.mean(missed, 0).max() <= 2 * np.exp(-pfp.LOG_FAILURES)
    assert number > 1


def test_error_and_samples_are_inverses():
    for error, total in itertools.product((0.05, 0.5, 3.0), (0.4, 2.0, 9.0)):
        samples = samples_for(error, total)
        assert pfp.error_for(samples, total) == pytest.approx(error, rel=1e-12)


def test_unit_is_kept_up_to_the_error_whose_sample_holds_as_many(seed):
    sensitivity = np.random.default_rng(seed).uniform(0.05, 1, size=9)
    errors = pfp.tolerated(sensitivity)
    assert order_of(errors) == order_of(sensitivity)
    chances = sensitivity / sensitivity.sum()
    for rank, unit in enumerate(np.argsort(-sensitivity)):
        samples = samples_for(errors[unit], float(sensitivity.sum()))
        assert (1 - (1 - chances) ** samples).sum() == pytest.approx(rank + 0.5, rel=1e-6)


def test_unit_without_any_share_tolerates_nothing():
    assert pfp.tolerated(np.array([0.5, 0.0, 0.2]))[1] == 0


# Discrimination


def reader(seed=0):
    """A layer of four channels on 24 rows of 12 images, what it makes, and the labels."""
    torch.manual_seed(seed)
    x, weights = torch.randn(24, 4, 2).double(), torch.randn(5, 4, 2).double()
    y = torch.einsum("ncb,ocb->no", x, weights) + torch.randn(5).double()
    labels = torch.randint(3, (12,))
    own = dcp.Reader(x, y, weights, 12, 3, lambda outputs: F.cross_entropy(outputs, labels))
    return own, y, labels


def test_loss_of_a_whole_layer_is_that_of_the_best_classifier(seed):
    """Nothing is missing, and no other classifier does much better."""
    own, y, labels = reader(seed)
    pooled = ((y - y.mean(0)) / y.std(0, correction=0)).relu().view(12, 2, 5).mean(1)
    head = nn.Linear(5, 3).double()
    optimiser = torch.optim.LBFGS(head.parameters(), max_iter=20, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = F.cross_entropy(head(pooled), labels)
        loss.backward()
        return loss

    optimiser.step(closure)
    found = float(own.loss(own.weights))
    assert found == pytest.approx(float(closure().detach()), abs=0.05)
    assert found < 0.7 * float(own.loss(torch.zeros_like(own.weights)))


def test_slope_norms_are_those_of_finite_differences(seed):
    own, *_ = reader(seed)
    at, slope = 0.3 * own.weights, torch.zeros_like(own.weights)
    for place in itertools.product(*map(range, at.shape)):
        step = torch.zeros_like(at)
        step[place] = 1e-6
        slope[place] = (own.loss(at + step) - own.loss(at - step)) / 2e-6
    found = dcp.slope_norms([own], [at])
    torch.testing.assert_close(found, slope.norm(dim=(0, 2)), rtol=1e-5, atol=1e-7)


def test_fitting_changes_what_is_chosen_alone_and_lowers_the_loss(seed):
    own, *_ = reader(seed)
    start = torch.zeros_like(own.weights)
    start[:, [1, 3]] = own.weights[:, [1, 3]]
    (found,) = dcp.fitted([own], [start], [1, 3])
    assert not found[:, [0, 2]].any()
    assert float(own.loss(found)) < float(own.loss(start))


def test_dcp_chooses_what_tells_classes_apart_before_what_is_loud(monkeypatch):
    """Unit 0 is loud noise; unit 1 says the class, softly."""
    torch.manual_seed(0)
    labels = (torch.rand(120) < 0.3).long()
    images = torch.stack([3 * torch.randn(120), 2.0 * labels - 1], 1).double()
    layers = nn.Linear(2, 2, bias=False), nn.Linear(2, 3, bias=False)
    model = nn.Sequential(*layers).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
        model[1].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
    given = given_for(model, images, labels)
    for discrimination, first in ((100.0, 1), (0.0, 0)):
        monkeypatch.setattr(dcp, "DISCRIMINATION", discrimination)
        assert CRITERIA["dcp"](given)["0"].argmax() == first


# Dynamical isometry


def test_all_singular_values_are_one(seed):
    given = chain(seed)
    for weight in isometry.orthonormal(given).values():
        values = torch.linalg.svdvals(weight.flatten(1))
        torch.testing.assert_close(values, torch.ones_like(values))


def test_filters_of_a_depthwise_convolution_are_normed_one_by_one():
    layers = nn.Conv2d(2, 6, 1), nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 4, 1), nn.Flatten()
    model = nn.Sequential(*layers, nn.Linear(64, 2)).double()
    given = given_for(model, torch.randn(40, 2, 6, 6).double(), torch.randint(2, (40,)))
    norms = isometry.orthonormal(given)["1.weight"].flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))


def test_isometry_is_snip_of_the_network_of_orthonormal_filters(seed):
    given = chain(seed)
    scores = CRITERIA["isometry"](given)
    for name, weight in isometry.orthonormal(given).items():
        given.model.get_parameter(name).data.copy_(weight)
    for group, expected in CRITERIA["snip"](given).items():
        np.testing.assert_allclose(scores[group] / 60, expected, rtol=1e-9)


def test_isometry_does_not_go_by_the_lengths_of_filters(seed):
    given = chain(seed)
    expected = CRITERIA["isometry"](given)
    with torch.no_grad():
        given.model[2].weight *= 100
    for group, scores in CRITERIA["isometry"](given).items():
        np.testing.assert_allclose(scores, expected[group], rtol=1e-6)
