"""OSSCAR and He 2017: units and weights by least squares, from the first block to the last."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.rivals.he2017 import RIDGE as HE_RIDGE
from benchmarks.rivals.he2017 import he2017
from benchmarks.rivals.osscar import RIDGE, osscar, reduce
from benchmarks.rivals.shared.sequence import Products
from tests.benchmarks.rivals.small_rival import (
    SHAPES,
    convolutions,
    given_by,
    images_of,
    keeping,
    perceptron,
    rows_read,
)


class Twin:
    """Least squares of chosen columns, solved over rows: the ridge is rows of its own."""

    def __init__(self, x, y, dense, block, share):
        x, y, dense = (torch.as_tensor(part).detach().numpy() for part in (x, y, dense))
        self.block = block
        ridge = np.sqrt(share * np.square(x).mean() * len(x))
        self.x = np.concatenate([x, ridge * np.eye(x.shape[1])])
        self.y = np.concatenate([y, ridge * dense])

    def fit(self, channels):
        columns = [c * self.block + i for c in channels for i in range(self.block)]
        weight = np.linalg.lstsq(self.x[:, columns], self.y, rcond=None)[0]
        return weight, np.square(self.y - self.x[:, columns] @ weight).sum()

    def greedy(self, channels, keep):
        left = list(range(channels))
        while len(left) > keep:
            left.remove(min(left, key=lambda c: self.fit([o for o in left if o != c])[1]))
        return left


def drawn(seed, channels=7, block=2, outputs=4, n=200):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(channels * block, channels * block))
    x = rng.normal(size=(n, channels * block)) @ mixing
    dense = rng.normal(size=(channels * block, outputs))
    return x, x @ dense + rng.normal(size=(n, outputs)), dense


def reduced(x, y, dense, block, keep):
    x, y, dense = map(torch.from_numpy, (x, y, dense))
    return reduce(Products(x.T @ x / len(x), x.T @ y / len(x), block), dense, keep)


@pytest.mark.parametrize("draw", range(5))
def test_osscar_is_as_good_as_greedy_refits_over_rows_and_its_weights_are_the_best(draw):
    x, y, dense = drawn(draw)
    twin, found = Twin(x, y, dense, 2, RIDGE), reduced(x, y, dense, 2, 4)
    weight, error = twin.fit(found.kept)
    np.testing.assert_allclose(found.weight.numpy(), weight, rtol=1e-6, atol=1e-9)
    assert error <= twin.fit(twin.greedy(7, 4))[1] * (1 + 1e-9)


def test_osscar_swaps_out_of_where_greedy_removal_ends():
    """Seeds of which all swaps are checked; some lead to something better than greedy alone."""
    better = []
    for seed in range(30):
        x, y, dense = drawn(seed)
        twin, found = Twin(x, y, dense, 2, RIDGE), reduced(x, y, dense, 2, 3)
        error, greedy = twin.fit(found.kept)[1], twin.fit(twin.greedy(7, 3))[1]
        best = min(twin.fit(list(c))[1] for c in itertools.combinations(range(7), 3))
        assert best * (1 - 1e-9) <= error <= greedy * (1 + 1e-9)
        better.append(error < greedy * (1 - 1e-6))
    assert any(better)
    assert not all(better)


def test_osscar_fits_a_block_to_what_it_made_from_what_it_reads_now():
    given = given_by(perceptron)
    pruned, selection = osscar(given, keeping(given, _0=range(4), _2=range(3)))
    assert [len(selection.kept[name]) for name in ("0", "2")] == [4, 3]
    x, (first, second) = images_of(given), (given.model[2], given.model[4])
    with torch.no_grad():
        read = given.model[:2](x)
        twin = Twin(read, first(read) - first.bias, first.weight.T, 1, RIDGE)
        weight = torch.from_numpy(twin.fit(selection.kept["0"])[0])
        now = torch.relu(read[:, selection.kept["0"]] @ weight + first.bias)  # all of the second
        made = second(given.model[:4](x)) - second.bias  # of the dense network
        weight, _ = Twin(now, made, second.weight.T, 1, RIDGE).fit(selection.kept["2"])
        np.testing.assert_allclose(pruned[4].weight.T, weight, rtol=1e-6, atol=1e-9)


def test_he2017_fits_the_reader_by_plain_least_squares():
    given = given_by(perceptron, images=200)
    pruned, selection = he2017(given, keeping(given, _0=range(5)))
    x = images_of(given)
    rows, reader = rows_read(given.model, 2, x), given.model[2]
    with torch.no_grad():
        made = (given.model[:3](x) - reader.bias).numpy()
    twin = Twin(rows, made, reader.weight.T.detach().numpy(), 1, HE_RIDGE)
    weight, _ = twin.fit(selection.kept["0"])
    np.testing.assert_allclose(pruned[2].weight.T.detach().numpy(), weight, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rival", [osscar, he2017])
def test_a_convolution_is_fitted_by_its_patches(rival):
    given = given_by(convolutions)
    pruned, selection = rival(given, keeping(given, _0=range(3)))
    share = RIDGE if rival is osscar else HE_RIDGE
    x, reader = images_of(given), given.model[2]
    with torch.no_grad():
        maps = given.model[:2](x)
        patches = maps.unfold(2, 2, 1).unfold(3, 2, 1)  # (n, 6, 4, 4, 2, 2)
        rows = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, 24).numpy()
        made = reader(maps).permute(0, 2, 3, 1).reshape(-1, 4).numpy()
        dense = reader.weight.reshape(4, 24).T.numpy()
    weight, _ = Twin(rows, made, dense, 4, share).fit(selection.kept["0"])
    found = pruned[2].weight.detach().reshape(4, -1).T.numpy()
    np.testing.assert_allclose(found, weight, rtol=1e-4, atol=1e-6)


class Residual(nn.Sequential):
    """A block, and the same again: relu(x + norm(conv(relu(conv(x)))))."""

    def forward(self, x):
        x = torch.relu(self[0](x))
        for first, second, norm in ((self[1], self[2], self[3]), (self[4], self[5], self[6])):
            x = torch.relu(norm(second(torch.relu(first(x)))) + x)
        return self[7](x.mean((2, 3)))


def residual():
    block = [(nn.Conv2d(4, 6, 1), nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4)) for _ in range(2)]
    return Residual(nn.Conv2d(2, 4, 3), *block[0], *block[1], nn.Linear(4, 3)).double()


SHAPES[residual] = (2, 7, 7)


def test_he2017_makes_up_for_the_error_of_the_shortcut():
    given = given_by(residual)
    pruned, selection = he2017(given, keeping(given, _1=range(1), _4=range(4)))
    x, norm = images_of(given), given.model[6]
    with torch.no_grad():
        dense, now = trunk(given.model, x), trunk(pruned, x)
        wanted = given.model[5](torch.relu(given.model[4](dense)))
        factor = (norm.weight / (norm.running_var + norm.eps).sqrt())[:, None, None]
        wanted = wanted - given.model[5].bias[:, None, None] + (dense - now) / factor
        read = torch.relu(given.model[4](now))[:, selection.kept["4"]]
        rows, made = (maps.movedim(1, -1).flatten(0, -2) for maps in (read, wanted))
        best = torch.linalg.lstsq(rows, made).solution
        torch.testing.assert_close(pruned[5].weight[:, :, 0, 0].T, best, rtol=1e-3, atol=1e-4)
        assert (dense - now).abs().max() > 0.1


def trunk(model, x):
    """What the second block reads."""
    x = torch.relu(model[0](x))
    return torch.relu(model[3](model[2](torch.relu(model[1](x)))) + x)
