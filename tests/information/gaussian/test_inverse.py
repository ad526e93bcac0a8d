"""The inverse from a factor against LAPACK's, on both sides of where strips begin."""

import pytest
import torch

from mipp.information.gaussian.inverse import STRIP, invert_factored

SIZES = (1, 7, 2 * STRIP, 2 * STRIP + 1, 3 * STRIP, 3 * STRIP + 100)


def covariance(size, ridge, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(max(size // 2, 2), size, generator=generator, dtype=torch.float64)
    matrix = rows.T @ rows / len(rows)
    matrix.diagonal().add_(ridge * matrix.diagonal().mean())
    return matrix


@pytest.mark.parametrize("ridge", [1.0, 1e-3])
@pytest.mark.parametrize("size", SIZES)
def test_inverse_is_that_of_lapack(size, ridge):
    matrix = covariance(size, ridge)
    lower = torch.linalg.cholesky(matrix)
    expected = torch.linalg.inv(matrix)
    invert_factored(lower)
    assert torch.allclose(lower, expected, rtol=0, atol=1e-11 * float(expected.abs().max()))
    assert torch.allclose(lower, lower.mT, rtol=0, atol=1e-14 * float(expected.abs().max()))


@pytest.mark.parametrize("size", SIZES)
def test_columns_in_memory_are_inverted_in_place(size):
    matrix = covariance(size, 1e-3)
    held = torch.linalg.cholesky(matrix).mT.contiguous()  # LAPACK's own order
    invert_factored(held.mT)
    expected = torch.linalg.inv(matrix)
    assert torch.allclose(held, expected, rtol=0, atol=1e-11 * float(expected.abs().max()))


def test_several_strips_are_as_exact_as_lapack():
    """Rank-deficient but for the ridge: what a wide layer with few rows looks like."""
    size = 3 * STRIP
    matrix = covariance(size, 1e-3)
    eye = torch.eye(size, dtype=torch.float64)
    theirs = torch.cholesky_inverse(torch.linalg.cholesky(matrix))
    ours = torch.linalg.cholesky(matrix)
    invert_factored(ours)
    errors = [float((matrix @ found - eye).abs().max()) for found in (theirs, ours)]
    assert errors[1] < 10 * errors[0] + 1e-15
