"""The column that tells nothing: made of the others' values, in rows of its own."""

import numpy as np
import torch
from scipy.stats import chisquare, kstest

from mipp.information.null_column import null_column


def drawn(x, seed):
    return null_column(torch.as_tensor(x), torch.Generator().manual_seed(seed)).numpy()


def labelled_rows(n, channels, block):
    """Values that say which row, channel and place of the block they come from."""
    row, channel, place = np.ogrid[:n, :channels, :block]
    return row * 1000 + channel * 10 + place


def test_every_row_holds_a_whole_block_of_another_row(seed):
    null = drawn(labelled_rows(400, 6, 3), seed)
    assert null.shape == (400, 1, 3)
    row, channel, place = null // 1000, null % 1000 // 10, null % 10
    assert (place == [0, 1, 2]).all()
    assert (np.ptp(row, axis=2) == 0).all()
    assert (np.ptp(channel, axis=2) == 0).all()
    assert sorted(row[:, 0, 0]) == list(range(400))  # each row lends one


def test_channels_lend_equally_often(seed):
    channel = drawn(labelled_rows(6000, 6, 1), seed).ravel() % 1000 // 10
    assert chisquare(np.bincount(channel, minlength=6)).pvalue > 1e-4


def test_values_are_distributed_like_the_channels_taken_together(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal([-3.0, 0.0, 5.0], [0.1, 1.0, 2.0], (6000, 3))[:, :, None]
    assert kstest(drawn(x, seed).ravel(), x.ravel()).pvalue > 1e-4


def test_null_column_is_independent_of_its_row(seed):
    x = np.random.default_rng(seed).normal(size=(6000, 4, 1))
    null = drawn(x, seed)[:, 0, 0]
    correlations = np.corrcoef(null, x[:, :, 0].T)[0, 1:]
    assert np.abs(correlations).max() < 4.5 / 6000**0.5
