"""Streamed moments against numpy's, whatever the chunks and the offset."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mipp.errors import ActivationError
from mipp.information import moments

FIELDS = ("x_mean", "y_mean", "xx", "xy", "yy")


def draw(seed, n, *, offset=0.0, dtype=torch.float64):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(offset, 1, (n, 3, 2)), rng.normal(-offset, 1, (n, 4))
    return torch.from_numpy(x).to(dtype), torch.from_numpy(y).to(dtype)


def assert_same(a, b, **tolerance):
    assert a.n == b.n
    for field in FIELDS:
        np.testing.assert_allclose(
            getattr(a, field), getattr(b, field), **(tolerance or {"rtol": 1e-10, "atol": 1e-10})
        )


def test_moments_match_numpy_covariance(seed):
    x, y = draw(seed, 200)
    found = moments.of_rows(x, y)
    covariance = np.cov(np.hstack([x.flatten(1), y]), rowvar=False, bias=True)
    np.testing.assert_allclose(found.x_mean, x.flatten(1).numpy().mean(0), atol=1e-14)
    np.testing.assert_allclose(found.y_mean, y.numpy().mean(0), atol=1e-14)
    np.testing.assert_allclose(found.xx / 200, covariance[:6, :6], atol=1e-13)
    np.testing.assert_allclose(found.xy / 200, covariance[:6, 6:], atol=1e-13)
    np.testing.assert_allclose(found.yy / 200, np.diag(covariance)[6:], atol=1e-13)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    sizes=st.tuples(*[st.integers(1, 30)] * 3),
    offset=st.floats(-100, 100),
)
def test_merge_is_associative(seed, sizes, offset):
    a, b, c = (moments.of_rows(*draw(seed + i, n, offset=offset * i)) for i, n in enumerate(sizes))
    left = moments.merge(moments.merge(a, b), c)
    assert_same(left, moments.merge(a, moments.merge(b, c)), rtol=1e-9, atol=1e-7)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 60), size=st.integers(1, 60))
def test_chunk_size_does_not_change_moments(seed, n, size):
    x, y = draw(seed, n)
    chunks = zip(x.split(size), y.split(size), strict=True)
    assert_same(moments.stream(chunks), moments.of_rows(x, y))


def test_large_offset_keeps_accuracy(seed):
    x, y = draw(seed, 3000, offset=1e4, dtype=torch.float32)
    found = moments.stream(zip(x.split(7), y.split(7), strict=True))
    exact = np.hstack([x.flatten(1), y]).astype(np.longdouble)
    exact -= exact.mean(0)
    np.testing.assert_allclose(found.xx, (exact.T @ exact)[:6, :6].astype(float), rtol=1e-9)
    np.testing.assert_allclose(found.yy, (exact**2).sum(0)[6:].astype(float), rtol=1e-9)


def test_single_rows_can_be_streamed():
    x, y = draw(0, 5)
    assert_same(moments.stream(zip(x.split(1), y.split(1), strict=True)), moments.of_rows(x, y))


def test_moments_of_no_rows_are_refused():
    with pytest.raises(ValueError, match="expected at least one chunk"):
        moments.stream([])


@pytest.mark.parametrize("d", [6, 100, 700])  # one strip, several, several wide ones
def test_moments_come_back_from_a_file_bit_by_bit(d):
    rng = np.random.default_rng(0)
    x, y = (torch.from_numpy(rng.normal(size=(20, k))) for k in (d, 3))
    found = moments.stream(zip(x.split(7), y.split(7), strict=True))
    tensors = found.tensors()
    assert tensors["xx"].numel() < 0.6 * d * d or d < 500
    read = moments.from_tensors(tensors)
    assert read.n == found.n
    assert all(torch.equal(getattr(read, field), getattr(found, field)) for field in FIELDS)


def test_products_in_the_precision_of_the_rows_are_off_by_their_rounding(seed):
    x, y = draw(seed, 3000, dtype=torch.float32)
    exact, found = (moments.stream([(x, y)], products) for products in ("float64", "rows"))
    scale = exact.xx.diagonal().sqrt()
    error = ((found.xx - exact.xx) / torch.outer(scale, scale)).abs()
    rounding = torch.finfo(torch.float32).eps / 2
    assert 0 < error.max() < len(x) ** 0.5 * rounding  # of a sum of so many products
    assert error.mean() < 3e-7
    assert found.xx.dtype == torch.float64


@pytest.mark.parametrize("side", [0, 1])
def test_rows_whose_squares_overflow_are_refused_in_single_precision_alone(side):
    rows = [torch.randn(20, 3), torch.randn(20, 2)]
    rows[side] *= 1e20
    with pytest.raises(ActivationError, match=r"(?s)below 1\.8e\+19.*double precision"):
        moments.stream([tuple(rows)], "rows")
    found = moments.stream([tuple(part.double() for part in rows)], "rows")
    assert found.xx.isfinite().all()
    assert found.yy.isfinite().all()
