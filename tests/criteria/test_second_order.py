"""Second-order criteria against dense algebra: inverses, constrained optima, Jacobians."""

import numpy as np
import pytest
import torch
from test_criteria import own_input, resnet_input
from torch import nn

from mipp.criteria import CRITERIA
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
