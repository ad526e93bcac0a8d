"""The inverse by elimination of taps that never meet against LAPACK's of the whole matrix."""

import pytest
import torch
from oracles import patch_rows, patch_targets
from safetensors.torch import load_file, save_file

from mipp.errors import SingularCovarianceError
from mipp.information import gaussian, moments
from mipp.information.gaussian.arrowhead import invert_covariance, taps_apart
from mipp.information.patches import CHANNELS

SETTINGS = {"ridge": 1e-3, "resolution": 0.3}
CORNERS = {0, 2, 6, 8}


def independent(x):
    return x


def of_low_rank(x):
    """Each channel a mixture of twenty."""
    mixing = torch.randn(20, CHANNELS, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    return torch.einsum("nct,cd->ndt", x[:, :20], mixing)


def partly_constant(x):
    """Eight channels are the same in all pixels of all maps: they tell the always-one."""
    inside = (x != 0).any(1, keepdim=True)
    return torch.cat([inside.expand(-1, 8, -1).to(x.dtype), x[:, 8:]], 1)


def of_maps(seed, side, kind=independent, *, offset=0.0, images=200, products="float64"):
    x = kind(patch_rows(seed, images, side, offset=offset).double())
    y = patch_targets(seed, len(x)).double()
    return moments.stream(zip(x.split(256), y.split(256), strict=True), products)


@pytest.mark.parametrize("ridge", [1e-3, 1e-6])
@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("kind", [independent, of_low_rank, partly_constant])
@pytest.mark.parametrize(("side", "apart"), [(1, 9), (2, 4)])
def test_inverse_is_as_exact_as_the_second_moments_allow(seed, side, apart, kind, offset, ridge):
    sums = of_maps(seed, side, kind, offset=offset)
    assert len(taps_apart(sums.met)) == apart
    covariance = sums.xx / sums.n
    penalty = ridge * float(covariance.diagonal().mean())
    covariance.diagonal().add_(penalty)
    inverse = covariance.clone()
    assert invert_covariance(inverse, sums.x_mean, sums.met) == 0
    error = (covariance @ inverse - torch.eye(len(covariance))).abs().max()
    largest = torch.linalg.eigvalsh(covariance.addr(sums.x_mean, sums.x_mean))[-1]
    assert error < 10 * torch.finfo(torch.float64).eps * largest / penalty
    assert torch.equal(inverse, inverse.mT)


def test_a_map_of_two_by_two_parts_the_corners():
    assert set(taps_apart(of_maps(0, 2).met)) == CORNERS


def test_a_map_of_one_pixel_parts_every_tap():
    met = of_maps(0, 1).met
    assert met.nonzero().tolist() == [[4, 4]]
    assert set(taps_apart(met)) == set(range(9))


def test_a_map_whose_centre_sees_all_taps_parts_none():
    assert len(taps_apart(of_maps(0, 3).met)) == 1


def test_no_two_taps_apart_meet_and_none_can_be_added(seed):
    half = torch.rand(12, 12, generator=torch.Generator().manual_seed(seed)) < 0.2
    met = half | half.mT
    apart = taps_apart(met)
    assert not any(met[a, b] for a in apart for b in apart if a != b)
    assert all(met[tap, apart].any() for tap in range(12) if tap not in apart)


def test_taps_that_meet_fewest_come_first():
    star = torch.eye(5, dtype=torch.bool)
    star[0] = star[:, 0] = True  # the first meets all, the others only it
    assert set(taps_apart(star)) == {1, 2, 3, 4}


@pytest.mark.parametrize("products", ["float64", "rows"])
@pytest.mark.parametrize("side", [1, 2])
def test_prepared_pair_is_the_same_without_what_met(seed, side, products):
    sums = of_maps(seed, side, products=products)
    assert sums.met is not None
    whole = moments.Moments(sums.n, sums.x_mean, sums.y_mean, sums.xx, sums.xy, sums.yy)
    found = gaussian.prepare(sums, CHANNELS, **SETTINGS).tensors()
    for name, expected in gaussian.prepare(whole, CHANNELS, **SETTINGS).tensors().items():
        torch.testing.assert_close(found[name], expected, rtol=1e-9, atol=1e-10)


def test_a_layer_of_zeros_is_prepared():
    sums = moments.of_rows(torch.zeros(8, CHANNELS, 9), torch.ones(8, 5))
    assert not sums.met.any()
    state = gaussian.prepare(sums, CHANNELS, **SETTINGS)
    assert not state.weights.any()
    expected = torch.eye(9 * CHANNELS, dtype=torch.float64) / SETTINGS["ridge"]
    torch.testing.assert_close(state.precision, expected)


def test_what_met_survives_a_file(tmp_path, seed):
    sums = of_maps(seed, 2)
    save_file(sums.tensors(), tmp_path / "sums.safetensors")
    assert torch.equal(moments.from_tensors(load_file(tmp_path / "sums.safetensors")).met, sums.met)
    older = {name: tensor for name, tensor in sums.tensors().items() if name != "met"}
    assert moments.from_tensors(older).met is None


def test_taps_meet_in_a_merge_where_they_do_in_one_of_both(seed):
    whole = patch_rows(seed, 100, 2).double()
    y = patch_targets(seed, len(whole)).double()
    parts = [moments.of_rows(whole[at::4], y[at::4]) for at in range(4)]  # by position of the map
    merged = parts[0]
    for part in parts[1:]:
        assert not torch.equal(merged.met | part.met, part.met)
        assert not torch.equal(merged.met | part.met, merged.met)
        merged = moments.merge(merged, part)
    assert torch.equal(merged.met, moments.of_rows(whole, y).met)


def test_what_met_is_not_known_where_one_of_both_does_not_tell():
    known, unknown = of_maps(0, 2), moments.of_rows(torch.zeros(4, CHANNELS * 9), torch.zeros(4, 5))
    assert moments.merge(unknown, known).met is None
    assert moments.merge(known, unknown).met is None


def test_what_has_no_inverse_is_refused_with_its_pivot(seed):
    sums = of_maps(seed, 2)
    sums.xx.view(CHANNELS, 9, CHANNELS, 9)[5, 2, 5, 2] = -1e6  # channel 5 in the second corner
    with pytest.raises(SingularCovarianceError, match=f"pivot {CHANNELS + 6} of {9 * CHANNELS}"):
        gaussian.prepare(sums, CHANNELS, ridge=1e-6, resolution=0.3)
