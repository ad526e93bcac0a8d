"""The embedded digits."""

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits as bundled

from mipp.config import DataConfig
from mipp.data import load_data
from mipp.data.digits import load_digits

RAW = DataConfig(mean=(0,), std=(1,), calibration=8)


def test_train_and_test_divide_the_bundled_digits():
    digits = load_digits(DataConfig())
    assert (len(digits.train.labels), len(digits.test.labels)) == (1437, 360)
    together = torch.cat([digits.train.labels, digits.test.labels])
    assert together.bincount().tolist() == np.bincount(bundled().target).tolist()


def test_test_share_is_stratified():
    counts = load_digits(DataConfig()).test.labels.bincount().numpy()
    share = counts / np.bincount(bundled().target)
    assert ((share > 0.19) & (share < 0.21)).all()


def test_default_normalisation_is_that_of_the_bundled_digits():
    pixels = bundled().data / 16
    digits = load_digits(DataConfig())
    assert abs(digits.mean[0] - pixels.mean()) < 1e-3
    assert abs(digits.std[0] - pixels.std()) < 1e-3


def test_enlarged_digits_match_pillow_bilinear():
    small, large = (load_data(RAW, seed=0, size=size).test for size in (8, 28))
    before, after = (next(split.batches(20))[0] for split in (small, large))
    for digit, enlarged in zip(before, after, strict=True):
        image = Image.fromarray((digit[0] * 255).round().to(torch.uint8).numpy())
        expected = np.asarray(image.resize((28, 28), Image.Resampling.BILINEAR)) / 255
        np.testing.assert_allclose(enlarged[0], expected, atol=2 / 255)
