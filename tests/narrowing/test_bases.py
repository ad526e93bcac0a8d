"""Bases of heads against optima that NumPy finds of the same matrices."""

import numpy as np
import pytest
import torch

from mipp.layers.heads import Weights
from mipp.narrowing.bases import Moments, bases_of, in_bases

HEADS, SIZE, FEATURES, TOKENS = 2, 6, 9, 400


def root(matrix):
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(values) @ vectors.T


@pytest.fixture
def made():
    """Queries, keys and mixed values (tokens, heads, size), none centred."""
    rng = np.random.default_rng(0)
    turns = rng.normal(size=(3, HEADS, SIZE, SIZE)) * np.geomspace(1, 0.05, SIZE)
    shifts = rng.normal(size=(3, 1, HEADS, SIZE))
    noise = rng.normal(size=(3, TOKENS, HEADS, SIZE))
    return np.einsum("pths,phsk->pthk", noise, turns) + shifts


@pytest.fixture
def outputs():
    return np.random.default_rng(1).normal(size=(HEADS, FEATURES, SIZE))


def moments(made):
    q, k, v = map(torch.from_numpy, made)
    products = [torch.einsum("thi,thj->hij", x, x) for x in (q, k, v)]
    return Moments(*products, v.sum(0), torch.tensor(float(TOKENS)))


def test_all_dimensions_give_back_logits_and_outputs(made, outputs):
    bases = bases_of(moments(made), torch.from_numpy(outputs), centred=True)
    identity = torch.eye(SIZE, dtype=torch.float64).expand(HEADS, -1, -1)
    assert torch.allclose(bases.queries @ bases.keys.mT, identity, atol=1e-8)
    assert torch.allclose(bases.outputs @ bases.values.mT, identity, atol=1e-8)
    assert float(bases.lost[SIZE]) == 0


@pytest.mark.parametrize("size", range(1, SIZE))
def test_logits_of_queries_with_keys_are_the_best_of_so_many_dimensions(made, outputs, size):
    q, k, _ = made
    bases = bases_of(moments(made), torch.from_numpy(outputs), centred=True)
    for head in range(HEADS):
        turn_q, turn_k = (side[head, :, :size].numpy() for side in (bases.queries, bases.keys))
        logits = q[:, head] @ k[:, head].T
        kept = q[:, head] @ turn_q @ (k[:, head] @ turn_k).T
        # the best matrix of this rank, of all queries with all keys (Eckart and Young)
        best = np.linalg.svd(logits, compute_uv=False)[size:]
        assert np.sum((logits - kept) ** 2) == pytest.approx(np.sum(best**2), rel=1e-8)


@pytest.mark.parametrize("size", range(1, SIZE))
def test_outputs_of_values_are_the_best_of_so_many_dimensions(made, outputs, size):
    v = made[2]
    bases = bases_of(moments(made), torch.from_numpy(outputs), centred=True)
    for head in range(HEADS):
        back = bases.outputs[head, :, :size].numpy() @ bases.values[head, :, :size].numpy().T
        centred = v[:, head] - v[:, head].mean(0)
        told, kept = centred @ outputs[head].T, centred @ back.T @ outputs[head].T
        best = np.linalg.svd(told, compute_uv=False)[size:]
        assert np.sum((told - kept) ** 2) == pytest.approx(np.sum(best**2), rel=1e-8)


def test_what_is_lost_is_the_larger_share_of_logits_and_outputs(made, outputs):
    lost = bases_of(moments(made), torch.from_numpy(outputs), centred=True).lost
    logits, told = np.zeros(SIZE), np.zeros(SIZE)
    for head in range(HEADS):
        q, k, v = made[:, :, head]
        centred = v - v.mean(0)
        logits += np.linalg.svd(root(q.T @ q) @ root(k.T @ k), compute_uv=False) ** 2
        told += np.linalg.svd(centred @ outputs[head].T, compute_uv=False)[:SIZE] ** 2
    for size in range(SIZE):
        shares = [energy[size:].sum() / energy.sum() for energy in (logits, told)]
        assert float(lost[size]) == pytest.approx(max(shares), rel=1e-8)


def test_without_a_bias_the_mean_counts(made, outputs):
    v = made[2]
    bases = bases_of(moments(made), torch.from_numpy(outputs), centred=False)
    assert not bases.mean.any()
    for head in range(HEADS):
        back = bases.outputs[head, :, :3].numpy() @ bases.values[head, :, :3].numpy().T
        told = v[:, head] @ outputs[head].T
        best = np.linalg.svd(told, compute_uv=False)[3:]
        error = np.sum((told - v[:, head] @ back.T @ outputs[head].T) ** 2)
        assert error == pytest.approx(np.sum(best**2), rel=1e-8)


def test_bases_of_dimensions_that_tell_little_are_as_long_as_others(made, outputs):
    made[:, :, :, 3:] *= 1e-2
    bases = bases_of(moments(made), torch.from_numpy(outputs), centred=True)
    for basis in (bases.queries, bases.keys, bases.values, bases.outputs):
        assert float(basis.norm(dim=1)[:, :4].min()) > 0.05
        assert float(basis.norm(dim=1).max()) < 20


def test_dimensions_that_are_dead_cost_nothing(made, outputs):
    made[:, :, :, 4:] = 0
    lost = bases_of(moments(made), torch.from_numpy(outputs), centred=True).lost
    assert float(lost[4]) < 1e-9
    assert float(lost[3]) > 1e-6


def values_in_bases(made, outputs, size):
    """Values and what is read of them (tokens, features), of the heads given and of narrower."""
    v = made[2]
    bases = bases_of(moments(made), torch.from_numpy(outputs), centred=True)
    as_they_are = torch.eye(SIZE, dtype=torch.float64).expand(3, len(outputs), -1, -1)
    bias = torch.arange(FEATURES).double()
    narrow = in_bases(Weights(as_they_are, None, torch.from_numpy(outputs), bias), bases, size)
    told = np.einsum("thi,hki->thk", v, narrow.rows[2].numpy())
    read = np.einsum("thk,hfk->tf", told, narrow.outputs.numpy()) + narrow.bias.numpy()
    return np.einsum("thi,hfi->tf", v, outputs) + bias.numpy(), read, narrow


@pytest.mark.parametrize("size", range(1, SIZE))
def test_what_fewer_dimensions_lose_of_the_mean_goes_into_the_bias(made, outputs, size):
    made[2] += 10  # much more than values vary
    wide, narrow, _ = values_in_bases(made, outputs, size)
    assert np.allclose(narrow.mean(0), wide.mean(0), rtol=1e-8)
    wide, narrow, _ = values_in_bases(made[:, :, :1], outputs[:1], size)
    best = np.linalg.svd(wide - wide.mean(0), compute_uv=False)[size:]  # Eckart and Young
    assert np.sum((wide - narrow) ** 2) == pytest.approx(np.sum(best**2), rel=1e-6)


def test_values_that_do_not_vary_are_a_bias(made, outputs):
    made[2] = made[2][:1] * (1 + 1e-9 * np.random.default_rng(2).normal(size=made[2].shape))
    wide, narrow, weights = values_in_bases(made, outputs, 2)
    assert np.allclose(narrow, wide, rtol=1e-6)
    assert max(float(part.abs().max()) for part in weights if part is not None) < 50
