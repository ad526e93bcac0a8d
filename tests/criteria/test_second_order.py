"""Second-order criteria against dense algebra: inverses, constrained optima, Jacobians."""

import numpy as np
import pytest
import torch
from test_criteria import own_input, resnet_input
from torch import nn

from mipp.criteria import CRITERIA
from mipp.criteria import eigendamage as eigen
from mipp.criteria.obs import rises_until
from mipp.criteria.shared.surgeon import Surgeon, inverse_of
from mipp.criteria.shared.weight_loss import WeightLoss
from mipp.criteria.woodfisher import DAMPING, rise
from mipp.errors import DataError

N, SIZE = 12, 20


def drawn(seed):
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.randn(N, SIZE, generator=generator, dtype=torch.float64)
    return gradients, torch.randn(SIZE, generator=generator, dtype=torch.float64)


def fisher(gradients, damping):
    eye = torch.eye(gradients.shape[1], dtype=torch.float64)
    return gradients.T @ gradients / len(gradients) + damping * eye


@pytest.mark.parametrize("block", [[3], [0, 1, 2], [5, 7, 11, 19]])
def test_rise_is_that_of_the_dense_inverse(block, seed):
    gradients, weights = drawn(seed)
    inverse = torch.linalg.inv(fisher(gradients, 0.01))
    w = weights[block]
    expected = w @ torch.linalg.solve(inverse[block][:, block], w) / 2
    found = rise(w, gradients[:, block], gradients @ gradients.T, 0.01)
    assert found.item() == pytest.approx(expected.item(), rel=1e-10)


@pytest.mark.parametrize("block", [[3], [5, 7, 11, 19]])
def test_rise_is_that_of_the_constrained_optimum(block, seed):
    """Of d' F d / 2 under d = -w in the block: the others' best is a linear equation."""
    gradients, weights = drawn(seed)
    whole = fisher(gradients, 0.01)
    rest = [i for i in range(SIZE) if i not in block]
    change = torch.zeros(SIZE, dtype=torch.float64)
    change[block] = -weights[block]
    change[rest] = torch.linalg.solve(whole[rest][:, rest], -whole[rest][:, block] @ change[block])
    expected = change @ whole @ change / 2
    found = rise(weights[block], gradients[:, block], gradients @ gradients.T, 0.01)
    assert found.item() == pytest.approx(expected.item(), rel=1e-10)
    alone = torch.zeros(SIZE, dtype=torch.float64)
    alone[block] = -weights[block]
    assert found < alone @ whole @ alone / 2  # what the others make up for


def test_scores_are_those_of_a_layer_by_dense_algebra():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    given = own_input(model, shape=(5,))
    weight = model[0].weight
    rows = []
    for images, labels in given.batches():
        for image, label in zip(images, labels, strict=True):
            loss = nn.functional.cross_entropy(model(image[None]), label[None])
            rows.append(torch.autograd.grad(loss, weight)[0].flatten())
    gradients = torch.stack(rows)
    damping = DAMPING * gradients.square().mean().item()
    inverse = torch.linalg.inv(fisher(gradients, damping))
    expected = []
    for unit in range(4):
        block = list(range(5 * unit, 5 * unit + 5))
        w = weight.detach().flatten()[block]
        expected.append((w @ torch.linalg.solve(inverse[block][:, block], w) / 2).item())
    (found,) = CRITERIA["woodfisher"](given).values()
    assert found == pytest.approx(np.array(expected), rel=1e-6)


def test_units_of_a_stream_have_the_rises_of_all_that_make_them():
    given = resnet_input()
    scores = CRITERIA["woodfisher"](given)
    assert {name: len(values) for name, values in scores.items()} == dict(given.graph.widths)
    assert all((values > 0).all() for values in scores.values())


def test_individual_form_is_that_of_the_gauss_newton_matrix():
    """Of a network in which all weights make units but the last, by dense Jacobians."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    given = own_input(model, shape=(3,))
    weight = model[0].weight.detach().clone()

    def outputs(values, image):
        return torch.func.functional_call(model, {"0.weight": values}, image[None])[0]

    gradient, matrix, n = torch.zeros(12), torch.zeros(12, 12).double(), 0
    gradient = gradient.double()
    for images, labels in given.batches():
        for image, label in zip(images, labels, strict=True):
            jacobian = torch.func.jacrev(outputs)(weight, image).reshape(3, 12).detach()
            shares = outputs(weight, image).softmax(0).detach()
            wanted = nn.functional.one_hot(label, 3).double()
            gradient += (shares - wanted) @ jacobian
            matrix += jacobian.T @ (shares.diag() - torch.outer(shares, shares)) @ jacobian
            n += 1
    of_unit = [range(3 * unit, 3 * unit + 3) for unit in range(4)]
    w = weight.flatten()
    expected = []
    for own in of_unit:
        own = list(own)
        together = [
            (w[own] @ matrix[own][:, list(other)] @ w[list(other)]).abs() for other in of_unit
        ]
        expected.append(float((w[own] @ gradient[own]).abs() + sum(together) / 2) / n)
    (found,) = CRITERIA["sosp-i"](given).values()
    assert found == pytest.approx(np.array(expected), rel=1e-9)


def test_too_many_outputs_are_refused():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1200)).double()
    with pytest.raises(DataError, match=r"at most 1,000, got 1200; take sosp-h"):
        CRITERIA["sosp-i"](own_input(model, shape=(3,)))


# Optimal brain surgeon


def quadratic(seed):
    """A Hessian (SIZE, SIZE) far from diagonal, and the weights at its minimum."""
    gradients, weights = drawn(seed)
    return fisher(gradients, 0.1), weights


def constrained(hessian, weights, gone):
    """The weights that are best without some, and the rise, by a linear equation."""
    rest = [i for i in range(SIZE) if i not in gone]
    change = torch.zeros(SIZE, dtype=torch.float64)
    change[gone] = -weights[gone]
    right = -hessian[rest][:, gone] @ change[gone]
    change[rest] = torch.linalg.solve(hessian[rest][:, rest], right)
    return weights + change, float(change @ hessian @ change / 2)


def test_surgeon_leaves_the_constrained_optimum_of_a_quadratic(seed):
    hessian, weights = quadratic(seed)
    surgeon = Surgeon(weights, inverse_of(hessian, 1e-6))
    gone, risen = [], 0.0
    for block in ([0, 1, 2], [9], [4, 11, 19]):
        risen += surgeon.rise(torch.tensor(block))
        surgeon.remove(torch.tensor(block))
        gone += block
        best, rise_of_all = constrained(hessian, weights, gone)
        assert torch.allclose(surgeon.weights, best, rtol=0, atol=1e-10)
        assert risen == pytest.approx(rise_of_all, abs=1e-10)


def test_units_leave_in_the_order_of_what_the_rest_cannot_make_up_for(seed):
    hessian, weights = quadratic(seed)
    blocks = {"a": [[0, 1], [2, 3], [4, 5]], "b": [[6, 7, 8], [9, 10, 11]]}
    places = {name: [torch.tensor(unit) for unit in units] for name, units in blocks.items()}
    scores = rises_until(Surgeon(weights, inverse_of(hessian, 1e-6)), places)
    gone, left = [], {(name, i) for name, units in blocks.items() for i in range(len(units))}

    def risen(unit):
        return constrained(hessian, weights, gone + blocks[unit[0]][unit[1]])[1]

    while any(sum(name == group for group, _ in left) > 1 for name in blocks):
        free = [unit for unit in left if sum(unit[0] == group for group, _ in left) > 1]
        first = min(free, key=risen)
        assert scores[first[0]][first[1]] == pytest.approx(risen(first), abs=1e-10)
        gone += blocks[first[0]][first[1]]
        left.remove(first)
    for name, unit in left:
        assert scores[name][unit] == pytest.approx(risen((name, unit)), abs=1e-10)


def test_a_hessian_that_curves_down_is_raised_to_its_floor():
    hessian = torch.diag(torch.tensor([4.0, 0.0, -2.0], dtype=torch.float64))
    assert inverse_of(hessian, 0.5).diagonal().tolist() == pytest.approx([0.25, 1.0, 1.0])


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def test_hessian_is_that_of_all_weights():
    given = own_input(small_net(), shape=(4,))
    shapes = {"0.weight": (5, 4), "2.weight": (3, 5)}

    def loss(flat):
        parts = flat.split([20, 15])
        weights = {n: p.view(s) for (n, s), p in zip(shapes.items(), parts, strict=True)}
        losses = [
            nn.functional.cross_entropy(
                torch.func.functional_call(given.model, weights, x), y, reduction="sum"
            )
            for x, y in given.batches()
        ]
        return sum(losses) / 8

    flat = torch.cat([given.model.get_parameter(name).detach().flatten() for name in shapes])
    expected = torch.autograd.functional.hessian(loss, flat)
    assert torch.allclose(WeightLoss(given).hessian(), expected, atol=1e-12)


def test_obs_refuses_what_is_no_small_network():
    model = nn.Sequential(nn.Linear(30, 100), nn.Tanh(), nn.Linear(100, 3)).double()
    with pytest.raises(DataError, match=r"at most 3,000 weights, got 3,300; take woodfisher or"):
        CRITERIA["obs"](own_input(model, shape=(30,)))


# EigenDamage


def curvature(seed, outputs=4, inputs=5):
    """Two bases and what is along them; the same as a dense matrix over (outputs, inputs)."""
    generator = torch.Generator().manual_seed(seed)
    bases = [
        torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0]
        for n in (outputs, inputs)
    ]
    bent = torch.rand(outputs, inputs, generator=generator, dtype=torch.float64) + 0.01
    both = torch.kron(*bases)
    weight = torch.randn(outputs, inputs, generator=generator, dtype=torch.float64)
    return *bases, bent, both @ bent.flatten().diag() @ both.T, weight


@pytest.mark.parametrize("unit", [[2], [0, 3]])
def test_rise_along_the_bases_is_that_of_the_dense_inverse(unit, seed):
    left, right, bent, dense, weight = curvature(seed)
    block = [5 * row + i for row in unit for i in range(5)]
    w, inverse = weight[unit].flatten(), torch.linalg.inv(dense)
    expected = w @ torch.linalg.solve(inverse[block][:, block], w) / 2
    found = eigen.rise(weight[unit] @ right, left[unit], bent)
    assert found.item() == pytest.approx(expected.item(), rel=1e-10)


def test_rise_is_between_nothing_and_that_of_optimal_brain_damage(seed):
    """And is the latter where the units are the curvature's own directions."""
    left, right, bent, dense, weight = curvature(seed)
    for unit in range(4):
        block = list(range(5 * unit, 5 * unit + 5))
        damage = float(weight[unit] @ dense[block][:, block] @ weight[unit] / 2)
        found = float(eigen.rise(weight[[unit]] @ right, left[[unit]], bent))
        assert 0 < found < damage
        own = float((bent[unit] * (weight[unit] @ right).square()).sum() / 2)
        eye = torch.eye(4, dtype=torch.float64)
        assert float(eigen.rise(weight[[unit]] @ right, eye[[unit]], bent)) == pytest.approx(own)


def test_bases_are_those_of_kronecker_factors(seed):
    """Of gradients g a', for all pairs of some g and some a, which then are independent."""
    left, right, *_ = curvature(seed)
    made = [torch.outer(i * left[:, i - 1], j * right[:, j - 1]) for i in (1, 2, 3, 4)
            for j in (1, 2, 3, 4, 5)]  # fmt: skip
    found_left, found_right, bent = eigen.rotated(torch.stack(made))
    assert torch.allclose((found_left.T @ left).abs(), torch.eye(4).double(), atol=1e-10)
    assert torch.allclose((found_right.T @ right).abs(), torch.eye(5).double(), atol=1e-10)
    expected = torch.outer(torch.arange(1, 5) ** 2, torch.arange(1, 6) ** 2).double() / 20
    assert torch.allclose(bent, expected + 1e-3 * expected.mean(), rtol=1e-9)


@pytest.mark.parametrize("name", ["obs", "eigendamage"])
def test_units_of_a_stream_rise_by_all_that_make_them(name):
    torch.manual_seed(0)
    given = own_input(Stream(), shape=(3, 5, 5))
    scores = CRITERIA[name](given)
    assert {group: len(values) for group, values in scores.items()} == dict(given.graph.widths)
    assert all((values > 0).all() for values in scores.values())


class Stream(nn.Module):
    """Two convolutions that write to one stream, and one between."""

    def __init__(self):
        super().__init__()
        self.stem, self.inner = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1)
        self.back, self.head = nn.Conv2d(5, 4, 1), nn.Linear(4, 3)
        self.double()

    def forward(self, x):
        x = self.stem(x).tanh()
        return self.head((x + self.back(self.inner(x).tanh())).mean((2, 3)))
