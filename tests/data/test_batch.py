"""Normalisation against its definition."""

import torch

from mipp.data.batch import normalise


def pixels(n=64, channels=3, size=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (n, channels, size, size)
    return torch.randint(1, 256, shape, dtype=torch.uint8, generator=generator)


def test_normalise_matches_the_definition():
    batch, mean, std = pixels(8), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    expected = torch.stack(
        [(batch[:, c].double() / 255 - mean[c]) / std[c] for c in range(3)], dim=1
    )
    torch.testing.assert_close(normalise(batch, mean, std).double(), expected, rtol=0, atol=1e-6)


def test_normalise_leaves_the_pixels_as_they_were():
    batch = pixels(4, channels=1)
    before = batch.clone()
    normalise(batch, (0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    assert torch.equal(batch, before)
