"""Sums over patches that are mostly border, against numpy's over all zeros."""

import numpy as np
import pytest
import torch
from oracles import patch_rows, patch_targets

from mipp.information import moments
from mipp.information.patches import CHANNELS, PatchSums, mostly_border


def numpy_moments(x, y):
    x, y = (side.flatten(1).double().numpy() for side in (x, y))
    x_mean = x.mean(0)
    x, y = x - x_mean, y - y.mean(0)
    return x_mean, x.T @ x, x.T @ y


@pytest.mark.parametrize("side", [2, 3])
@pytest.mark.parametrize("chunk", [7, 64, 1000])  # 7: images are torn apart
def test_sums_of_small_maps_match_numpy(seed, side, chunk):
    x = patch_rows(seed, 40, side)
    y = patch_targets(seed, len(x))
    sums = PatchSums(CHANNELS, 9, 5)
    for part in zip(x.double().split(chunk), y.double().split(chunk), strict=True):
        sums.add(*part)
    xx, xy, _ = sums.take()
    flat = x.flatten(1).double().numpy()
    np.testing.assert_allclose(xx, flat.T @ flat, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(xy, flat.T @ y.double().numpy(), rtol=1e-12, atol=1e-11)


def test_the_products_of_zeros_are_spared(seed):
    sums, x = PatchSums(CHANNELS, 9, 5), patch_rows(seed, 10, 2)
    sums.add(x, patch_targets(seed, len(x)))
    held = sum(block.numel() for block in sums._xx.values())
    # per axis 5 of 6 pairs of taps meet, counted one way; in the plane (7 * 7 + 9) / 2 of 45
    assert held == 29 * CHANNELS**2


@pytest.mark.parametrize("products", ["float64", "rows"])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_moments_of_small_maps_match_numpy(seed, products, offset):
    x = patch_rows(seed, 60, 2, offset=offset)
    y = patch_targets(seed, len(x))
    assert mostly_border(x)
    found = moments.stream(zip(x.split(96), y.split(96), strict=True), products)
    x_mean, xx, xy = numpy_moments(x, y)
    error = 1e-12 if products == "float64" else 1e-6
    scale = np.sqrt(xx.diagonal().max())
    np.testing.assert_allclose(found.x_mean, x_mean, rtol=error)
    np.testing.assert_allclose(found.xx / scale**2, xx / scale**2, atol=error)
    np.testing.assert_allclose(found.xy / scale, xy / scale, atol=30 * error)
    read = moments.from_tensors(found.tensors())
    assert torch.equal(read.xx, found.xx)


def test_a_mean_far_from_zero_costs_a_centre_tap_no_digits(seed):
    """A map of one pixel: of the one tap that holds something the variance is all there is."""
    x = patch_rows(seed, 500, 1, offset=3000.0)
    found = moments.stream([(x, patch_targets(seed, 500))], "rows")
    centre = found.xx.diagonal().view(CHANNELS, 9)[:, 4]
    np.testing.assert_allclose(centre, x[:, :, 4].double().var(0, correction=0) * 500, rtol=1e-4)


def test_rows_without_anything_have_moments():
    found = moments.of_rows(torch.zeros(8, CHANNELS, 9), torch.ones(8, 5))
    assert not found.xx.any()
    assert found.xy.shape == (CHANNELS * 9, 5)


def test_zeros_at_random_places_change_nothing(seed):
    """More patterns than are worth products of their own."""
    x = patch_rows(seed, 40, 2).double()
    x *= torch.from_numpy(np.random.default_rng(seed).random((len(x), 1, 9)) < 0.5)
    y = patch_targets(seed, len(x)).double()
    found = moments.of_rows(x, y)
    _, xx, xy = numpy_moments(x, y)
    np.testing.assert_allclose(found.xx, xx, atol=1e-10)
    np.testing.assert_allclose(found.xy, xy, atol=1e-10)


@pytest.mark.parametrize(
    "x",
    [
        patch_rows(0, 9, 8),  # large maps: few taps lie outside
        patch_rows(0, 9, 2, channels=CHANNELS - 1),
        patch_rows(0, 9, 2).flatten(1),
        patch_rows(0, 9, 2)[:, :, 4:5],
    ],
)
def test_other_rows_are_multiplied_as_they_are(x):
    assert not mostly_border(x)
