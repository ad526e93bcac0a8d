"""Vectorised augmentation and normalisation against loops over single images."""

import pytest
import torch
from torch.nn import functional

from mipp.data.batch import Augmentation, augment_batch, normalise, random_crop, random_flip


def pixels(n=64, channels=3, size=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (n, channels, size, size)
    return torch.randint(1, 256, shape, dtype=torch.uint8, generator=generator)


def crops_of(image, padding):
    """Every crop that an image may become, by its offset."""
    size = image.shape[-1]
    padded = functional.pad(image, (padding,) * 4)
    offsets = [(y, x) for y in range(2 * padding + 1) for x in range(2 * padding + 1)]
    return {(y, x): padded[:, y : y + size, x : x + size] for y, x in offsets}


def test_every_crop_is_a_shift_of_its_own_image_over_zeros():
    batch = pixels()
    cropped = random_crop(batch, 2, torch.Generator().manual_seed(0))
    for before, after in zip(batch, cropped, strict=True):
        assert any(torch.equal(after, crop) for crop in crops_of(before, 2).values())


def test_all_offsets_of_a_crop_occur_independently_for_each_image():
    batch = pixels(1).expand(600, -1, -1, -1)
    cropped = random_crop(batch, 1, torch.Generator().manual_seed(0))
    counts = [
        sum(torch.equal(after, crop) for after in cropped)
        for crop in crops_of(batch[0], 1).values()
    ]
    assert sum(counts) == 600
    assert min(counts) > 600 / 9 / 2


def test_flips_mirror_about_half_of_the_images_left_to_right():
    batch = pixels(400)
    flipped = random_flip(batch, torch.Generator().manual_seed(0))
    same = [torch.equal(a, b) for a, b in zip(batch, flipped, strict=True)]
    mirrored = [torch.equal(a.flip(2), b) for a, b in zip(batch, flipped, strict=True)]
    assert all(s != m for s, m in zip(same, mirrored, strict=True))
    assert 150 < sum(mirrored) < 250


@pytest.mark.parametrize(
    ("augment", "moves", "mirrors"),
    [
        ("none", False, False),
        ("crop", True, False),
        ("flip", False, True),
        ("crop-flip", True, True),
    ],
)
def test_each_augmentation_does_what_its_name_says(augment, moves, mirrors):
    batch = pixels(200)
    after = augment_batch(batch, Augmentation(augment), torch.Generator().manual_seed(0))
    has_border = (after == 0).flatten(1).any(1)  # no pixel of the batch is 0 but the padding
    assert bool(has_border.any()) is moves
    still = ~has_border
    mirrored = [torch.equal(a.flip(2), b) for a, b in zip(batch[still], after[still], strict=True)]
    assert any(mirrored) is mirrors


@pytest.mark.parametrize(("padding", "farthest"), [(None, 2), (1, 1), (3, 3)])
def test_a_crop_shifts_by_the_padding_or_an_eighth_of_the_side(padding, farthest):
    batch = pixels(200, size=16)
    after = augment_batch(batch, Augmentation("crop", padding), torch.Generator().manual_seed(0))
    rows = (after != 0).flatten(1, 1).any(1).any(2)  # (n, h): no pixel of the batch is 0
    empty_above = rows.int().argmax(1)
    assert set(empty_above.tolist()) == set(range(farthest + 1))


def test_augmentation_is_decided_by_the_generator():
    first, second, other = (
        augment_batch(pixels(), Augmentation("crop-flip"), torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


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
