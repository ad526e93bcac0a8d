"""The embedded default: scikit-learn's 1,797 handwritten digits, 8x8 grey."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from mipp.config import DataConfig
from mipp.data.image_set import ImageSet, part_in_memory

# The same test share for every seed, as in any set that comes with its own: a checkpoint is never
# tested on images that it was trained on under another seed.
_TEST_SEED = 0


def load_digits(config: DataConfig) -> ImageSet:
    """Digits with a stratified test share of 20 %."""
    (train, train_labels), (test, test_labels) = _bundled()
    return ImageSet(
        class_names=tuple("0123456789"),
        channels=1,
        size=8,
        mean=(0.305,),
        std=(0.376,),
        train=part_in_memory("digits/train", train, train_labels),
        test=part_in_memory("digits/test", test, test_labels),
    )


@functools.cache  # each stage loads its data: 20 ms to read the table and to divide it
def _bundled() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Images (n, 1, 8, 8) and labels (n,) of training, and those of test."""
    # scikit-learn takes a second to import, which only this set should pay
    from sklearn.datasets import load_digits as bundled
    from sklearn.model_selection import train_test_split

    pixels, targets = bundled(return_X_y=True)
    images = torch.from_numpy(np.rint(pixels * (255 / 16)).astype(np.uint8)).view(-1, 1, 8, 8)
    labels = torch.from_numpy(targets.astype(np.int64))
    train, test = train_test_split(
        np.arange(len(labels)), test_size=0.2, stratify=targets, random_state=_TEST_SEED
    )
    return (images[train], labels[train]), (images[test], labels[test])
