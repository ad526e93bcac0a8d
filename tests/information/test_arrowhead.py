"""The inverse without the zeros of taps that never meet against LAPACK's of all of it."""

import pytest
import torch
from oracles import patch_rows, patch_targets

from mipp.errors import SingularCovarianceError
from mipp.information import gaussian, moments
from mipp.information.arrowhead import invert_covariance, taps_apart
from mipp.information.patches import CHANNELS

CORNERS = {0, 2, 6, 8}


def of_maps(seed, side, *, offset=0.0, images=200):
    x = patch_rows(seed, images, side, offset=offset).double()
    return moments.of_rows(x, patch_targets(seed, len(x)).double())


def with_ridge(sums, share=1e-3):
    covariance = sums.xx / sums.n
    covariance.diagonal().add_(share * covariance.diagonal().mean())
    return covariance


@pytest.mark.parametrize("offset", [0.0, 5.0])  # a mean that is 25 variances large
@pytest.mark.parametrize("side", [1, 2, 3])  # of maps; of one pixel only the constant is left
def test_inverse_is_that_of_lapack(seed, side, offset):
    sums = of_maps(seed, side, offset=offset)
    covariance = with_ridge(sums)
    expected = torch.linalg.inv(covariance)
    assert invert_covariance(covariance, sums.x_mean, sums.met) == 0
    torch.testing.assert_close(
        covariance, expected, rtol=0, atol=1e-10 * float(expected.abs().max())
    )
    assert torch.equal(covariance, covariance.mT)


def test_a_map_of_two_by_two_parts_the_corners():
    assert set(taps_apart(of_maps(0, 2).met)) == CORNERS


def test_a_map_of_one_pixel_parts_every_tap():
    met = of_maps(0, 1).met
    assert met.sum() == 1
    assert set(taps_apart(met)) == set(range(9))


def test_taps_apart_are_told_from_rows_that_no_corner_shares(seed):
    """Whatever meets: no two of the chosen do, and every other tap meets one of them."""
    generator = torch.Generator().manual_seed(seed)
    half = torch.rand(12, 12, generator=generator) < 0.2
    met = half | half.mT
    apart = taps_apart(met)
    assert not any(met[a, b] for a in apart for b in apart if a != b)
    assert all(met[tap, apart].any() for tap in range(12) if tap not in apart)


@pytest.mark.parametrize("chunks", [1, 3])
def test_prepared_pair_is_the_same_without_what_met(seed, chunks):
    x = patch_rows(seed, 300, 2).double()
    y = patch_targets(seed, len(x)).double()
    parts = zip(x.tensor_split(chunks), y.tensor_split(chunks), strict=True)
    sums = moments.stream(parts)
    settings = {"ridge": 1e-3, "resolution": 0.3}
    whole = moments.of_rows(x.flatten(1), y)  # in this shape nothing is known of taps
    assert whole.met is None
    found = gaussian.prepare(sums, CHANNELS, **settings).tensors()
    for name, expected in gaussian.prepare(whole, CHANNELS, **settings).tensors().items():
        torch.testing.assert_close(found[name], expected, rtol=1e-8, atol=1e-9)


def test_what_met_survives_a_file_and_a_merge(seed):
    one, other = of_maps(seed, 1), of_maps(seed, 2)
    assert torch.equal(moments.from_tensors(other.tensors()).met, other.met)
    assert torch.equal(moments.merge(one, other).met, other.met)  # the centre met itself in both
    rest = moments.of_rows(torch.zeros(4, CHANNELS * 9), torch.zeros(4, 5))
    assert moments.merge(rest, other).met is None


def test_what_has_no_inverse_is_refused_with_its_pivot(seed):
    sums = of_maps(seed, 2)
    sums.xx.view(CHANNELS, 9, CHANNELS, 9)[5, 2, 5, 2] = -1e6  # channel 5 in the second corner
    with pytest.raises(SingularCovarianceError, match=f"pivot {CHANNELS + 6} of {9 * CHANNELS}"):
        gaussian.prepare(sums, CHANNELS, ridge=1e-6, resolution=0.3)
