"""GRAIL, CORP and variance-based pruning: what a reader is given instead of lost channels."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from benchmarks.rivals.corp import RIDGE as CORP_RIDGE
from benchmarks.rivals.corp import corp
from benchmarks.rivals.grail import RIDGE as GRAIL_RIDGE
from benchmarks.rivals.grail import grail
from benchmarks.rivals.shared.readers import hidden_groups, hidden_only
from benchmarks.rivals.variance import mean_shift, score_variance
from mipp.errors import ConfigError
from mipp.graph import build_graph
from mipp.models import ModelSpec, build_model
from mipp.selection.selection import keep_all
from tests.benchmarks.rivals.small_rival import (
    convolutions,
    given_by,
    images_of,
    keeping,
    perceptron,
    read_by,
    replaced,
    rows_read,
)

KEPT = [0, 2, 5]
NETWORKS = pytest.mark.parametrize("build", [perceptron, convolutions])


def guessed(maps, guess):
    """Maps (n, channels, ...) whose channels are a function of them, place by place."""
    rows = maps.movedim(1, -1)
    return torch.from_numpy(guess(rows.numpy())).movedim(-1, 1)


def assert_guess(given, pruned, guess):
    x = images_of(given)
    wanted = replaced(given.model, 2, lambda maps: guessed(maps, guess), x)
    with torch.no_grad():
        torch.testing.assert_close(pruned(x), wanted, rtol=1e-9, atol=1e-9)


@NETWORKS
def test_grail_gives_the_reader_the_ridge_reconstruction_of_all_channels(build):
    given = given_by(build)
    rows = rows_read(given.model, 2, images_of(given))
    ridge = GRAIL_RIDGE * np.square(rows[:, KEPT]).sum(0).mean()
    slope = Ridge(ridge, fit_intercept=False).fit(rows[:, KEPT], rows).coef_
    pruned = grail(given, keeping(given, _0=KEPT))
    assert_guess(given, pruned, lambda rows: rows[..., KEPT] @ slope.T)


@NETWORKS
def test_corp_gives_the_reader_an_affine_guess_at_lost_channels_alone(build):
    given = given_by(build)
    rows = rows_read(given.model, 2, images_of(given))
    ridge = CORP_RIDGE * rows[:, KEPT].var(0).mean() * len(rows)
    fit = Ridge(ridge).fit(rows[:, KEPT], rows)

    def guess(rows):
        found = fit.predict(rows[..., KEPT].reshape(-1, len(KEPT))).reshape(rows.shape)
        found[..., KEPT] = rows[..., KEPT]
        return found

    assert_guess(given, corp(given, keeping(given, _0=KEPT)), guess)


@NETWORKS
def test_mean_shift_gives_the_reader_the_means_of_lost_channels(build):
    given = given_by(build)
    means = rows_read(given.model, 2, images_of(given)).mean(0)

    def guess(rows):
        found = np.broadcast_to(means, rows.shape).copy()
        found[..., KEPT] = rows[..., KEPT]
        return found

    assert_guess(given, mean_shift(given, keeping(given, _0=KEPT)), guess)


@NETWORKS
def test_variance_is_that_of_a_channel_over_images_and_places(build):
    given = given_by(build)
    rows = rows_read(given.model, 2, images_of(given))
    np.testing.assert_allclose(score_variance(given)["0"], rows.var(0), rtol=1e-9)


@pytest.mark.parametrize("rival", [grail, corp, mean_shift])
def test_a_lost_channel_that_copies_a_kept_one_costs_next_to_nothing(rival):
    given = given_by(perceptron)
    first = given.model[0]
    with torch.no_grad():
        first.weight[1], first.bias[1] = first.weight[0], first.bias[0]
        wanted = given.model(images_of(given))
        found = rival(given, keeping(given, _0=[0, 2, 3, 4, 5, 6, 7]))(images_of(given))
    error = float((found - wanted).square().mean() / wanted.var())
    assert (error < 1e-5) == (rival is not mean_shift)


@pytest.mark.parametrize("rival", [grail, corp, mean_shift])
def test_nothing_lost_changes_nothing(rival):
    given = given_by(convolutions)
    same = rival(given, keep_all(given.graph.widths))
    assert torch.equal(same(images_of(given)), given.model(images_of(given)))


def test_hidden_groups_of_a_residual_network_are_those_within_blocks():
    model = build_model(ModelSpec("resnet20", 10, 3, 32), seed=0).eval()
    graph = build_graph(model, torch.zeros(1, 3, 32, 32))
    blocks = [f"layer{stage}.{block}.conv1" for stage in (1, 2, 3) for block in (0, 1, 2)]
    assert list(hidden_groups(graph)) == blocks
    assert set(hidden_only(graph).keep_outputs) == graph.groups.keys() - set(blocks)


def test_a_loss_that_several_layers_read_is_refused_by_name():
    model = build_model(ModelSpec("resnet20", 10, 3, 32), seed=0).eval()
    images = torch.zeros(2, 3, 32, 32)
    given = given_by(perceptron)
    given = type(given)(model, build_graph(model, images[:1]), lambda: [(images, None)], 0)
    with pytest.raises(ConfigError, match=r"after group 'conv1'.\nExpected losses of hidden"):
        grail(given, keeping(given, conv1=np.arange(8)))


def test_what_a_reader_reads_is_what_the_network_makes():
    given = given_by(convolutions)
    assert read_by(given.model, 2, images_of(given)).shape == (64, 6, 5, 5)
