"""Batches, fingerprints and laziness of a split."""

import dataclasses

import pytest
import torch

from mipp.config import DataConfig
from mipp.data import load_data
from mipp.data.augment import Augmentation
from mipp.data.image_set import Part, part_in_memory
from mipp.data.split import ImageSplit, Preparation
from mipp.errors import DataError

AS_IS = Preparation(1, 4, (0.0,), (1 / 255,))  # pixel values come out as they are


def numbered_part(n=10, *, streams=False):
    """Image i is filled with the number i and labelled i + 100; counts what is read."""
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 1, 4, 4)
    part = part_in_memory("numbers/train", images.contiguous(), torch.arange(n) + 100)
    counted = []

    def read(indices, size, progress):
        counted.append(len(indices))
        return part.read(indices, size, progress)

    return dataclasses.replace(part, read=read, streams=streams), counted


def numbers(batches):
    """Pairs (number in the image, label) in the order of the batches."""
    return [
        (int(image[0, 0, 0].round()), int(label))
        for images, labels in batches
        for image, label in zip(images, labels, strict=True)
    ]


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4, 10, 64])
def test_batches_give_every_image_with_its_label_in_order(streams, batch_size):
    part, _ = numbered_part(streams=streams)
    split = ImageSplit(part, torch.tensor([7, 2, 9, 0, 5]), AS_IS)
    expected = [(7, 107), (2, 102), (9, 109), (0, 100), (5, 105)]
    assert numbers(split.batches(batch_size)) == expected


def test_batches_are_float32_images_and_int64_labels():
    split = ImageSplit(numbered_part()[0], torch.arange(10), AS_IS)
    images, labels = next(split.batches(4))
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert (images.shape, labels.shape) == ((4, 1, 4, 4), (4,))


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("decoded", [False, True])
def test_part_between_two_numbers_holds_those_images_alone(streams, decoded):
    part, counted = numbered_part(streams=streams)
    split = ImageSplit(part, torch.tensor([7, 2, 9, 0, 5]), AS_IS, workers=0)
    if decoded:
        list(split.batches(5))
    counted.clear()
    assert numbers(split.between(1, 3).batches(8)) == [(2, 102), (9, 109)]
    assert sum(counted) == (0 if decoded and not streams else 2)
    assert numbers(split.between(4, 9).batches(8)) == [(5, 105)]
    assert numbers(split.between(5, 9).batches(8)) == []


@pytest.mark.parametrize("streams", [False, True])
def test_generator_shuffles_and_fixes_the_order(streams):
    split = ImageSplit(numbered_part(streams=streams)[0], torch.arange(10), AS_IS)
    first, second, other = (
        numbers(split.batches(3, generator=torch.Generator().manual_seed(seed)))
        for seed in (1, 1, 2)
    )
    assert first == second != other
    assert sorted(first) == sorted(other) == [(i, i + 100) for i in range(10)]


def test_augmentation_needs_the_generator():
    split = ImageSplit(numbered_part()[0], torch.arange(10), AS_IS, Augmentation("flip"))
    with pytest.raises(DataError, match=r"draw flip from, got None.\nPass generator="):
        split.batches(4, augment=True)


def test_augmentation_happens_only_when_asked_for():
    data = load_data(DataConfig(augment="crop-flip"), seed=0)
    plain, still, moved = (
        next(data.train.batches(64, generator=torch.Generator().manual_seed(0), augment=augment))
        for augment in (False, False, True)
    )
    assert torch.equal(plain[0], still[0])
    assert torch.equal(plain[1], moved[1])  # the same images, in the same order
    assert not torch.equal(plain[0], moved[0])


def test_crop_padding_reaches_the_batches():
    def first(padding):
        config = DataConfig(augment="crop", crop_padding=padding)
        batches = load_data(config, seed=0).train.batches(
            64, generator=torch.Generator().manual_seed(0), augment=True
        )
        return next(batches)[0]

    side = first(1).shape[-1]
    assert torch.equal(first(None), first(side // 8))
    assert not torch.equal(first(None), first(side // 8 + 1))


def test_a_crop_that_can_lose_the_image_is_refused():
    with pytest.raises(DataError, match=r"crop_padding 32 .*\nExpected less than the side of 32"):
        load_data(DataConfig(crop_padding=32, size=32), seed=0)


def test_test_images_are_never_augmented():
    data = load_data(DataConfig(augment="crop-flip"), seed=0)
    generator = torch.Generator().manual_seed(0)
    images, _ = next(data.test.batches(360, generator=generator, augment=True))
    plain, _ = next(data.test.batches(360, generator=generator.manual_seed(0)))
    assert torch.equal(images, plain)


def test_images_are_read_once_and_only_those_of_the_split():
    part, counted = numbered_part()
    split = ImageSplit(part, torch.tensor([1, 3, 5]), AS_IS)
    assert counted == []
    for _ in range(3):
        list(split.batches(2))
    assert counted == [3]


def test_streaming_reads_one_batch_at_a_time():
    part, counted = numbered_part(streams=True)
    batches = ImageSplit(part, torch.arange(10), AS_IS, workers=0).batches(2)
    next(batches)
    batches.close()
    assert counted == [2]


@pytest.mark.parametrize("read_before", [False, True])
def test_first_holds_the_first_images_and_shares_what_was_read(read_before):
    part, counted = numbered_part()
    split = ImageSplit(part, torch.tensor([7, 2, 9, 0]), AS_IS)
    if read_before:
        list(split.batches(4))
    assert numbers(split.first(2).batches(8)) == [(7, 107), (2, 102)]
    assert counted == ([4] if read_before else [2])
    assert len(split.first(99)) == 4


BASE = {"indices": torch.tensor([1, 2, 3]), "preparation": AS_IS}
CHANGES = {
    "indices": {"indices": torch.tensor([1, 2, 4])},
    "order": {"indices": torch.tensor([1, 3, 2])},
    "size": {"preparation": dataclasses.replace(AS_IS, size=8)},
    "channels": {"preparation": dataclasses.replace(AS_IS, channels=3)},
    "mean": {"preparation": dataclasses.replace(AS_IS, mean=(0.1,))},
    "std": {"preparation": dataclasses.replace(AS_IS, std=(0.1,))},
}


@pytest.mark.parametrize("change", CHANGES)
def test_fingerprint_changes_with_what_the_model_is_given(change):
    part, counted = numbered_part()
    before = ImageSplit(part, **BASE).fingerprint
    assert ImageSplit(part, **{**BASE, **CHANGES[change]}).fingerprint != before
    assert counted == []  # nothing was decoded for it


@pytest.mark.parametrize("field", ["name", "identity", "labels"])
def test_fingerprint_changes_with_the_set(field):
    part, _ = numbered_part()
    other = {"name": "others/train", "identity": "copy", "labels": part.labels + 1}[field]
    changed: Part = dataclasses.replace(part, **{field: other})
    assert ImageSplit(changed, **BASE).fingerprint != ImageSplit(part, **BASE).fingerprint


def test_fingerprint_is_the_same_for_the_same_split():
    first, second = (ImageSplit(numbered_part()[0], **BASE).fingerprint for _ in range(2))
    assert first == second
    assert len(bytes.fromhex(first)) == 32
