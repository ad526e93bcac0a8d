"""Random parts of images are those of torchvision's RandomResizedCrop, from a number each."""

import numpy as np
import pytest
import torch
from PIL import Image

from mipp.config import DataConfig
from mipp.data import Part, load_data
from mipp.data.augment import Augmentation
from mipp.data.image_set import part_in_memory
from mipp.data.split import ImageSplit, Preparation
from mipp.data.transforms import random_part
from mipp.vision import torchvision

SIDE, RATIO = 24, (3 / 4, 4 / 3)
RESIZED = Augmentation("resized-crop")
AS_IS = Preparation(3, SIDE, (0.0,) * 3, (1 / 255,) * 3)  # pixel values come out as they are


def drawn(image, seed):
    """torchvision's own crop, from its global generator."""
    torch.manual_seed(seed)
    return torchvision.transforms.RandomResizedCrop(SIDE, antialias=True)(image)


def order_and_seeds(split):
    """What a split's pass draws from a generator with seed 5."""
    generator = torch.Generator().manual_seed(5)
    order = torch.randperm(len(split), generator=generator)
    return order, torch.randint(2**62, (len(split),), generator=generator).tolist()


def cropped(split, batch_size=4):
    generator = torch.Generator().manual_seed(5)
    passes = split.batches(batch_size, generator=generator, augment=True)
    return torch.cat([images for images, _ in passes])


@pytest.mark.parametrize("size", [(20, 30), (224, 224), (10, 200), (200, 10), (3, 3), (1, 1)])
def test_boxes_are_torchvisions(size):
    image = torch.zeros(3, *size)
    for seed in range(40):
        torch.manual_seed(seed)
        known = torchvision.transforms.RandomResizedCrop.get_params(
            image, (0.08, 1), (3 / 4, 4 / 3)
        )
        assert tuple(random_part(image, seed).values()) == known


def test_images_of_a_folder_are_cropped_whole(tmp_path):
    generator, sizes = np.random.default_rng(0), [(40, 30), (64, 25), (30, 90), (51, 51)] * 2
    for number, (width, height) in enumerate(sizes):
        for part in ("train", "test"):
            folder = tmp_path / part / f"class{number % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    plain = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3, "calibration": 2, "validation": 0}
    config = DataConfig(
        name="image-folder", root=str(tmp_path), size=SIDE, augment="resized-crop", **plain
    )
    split = load_data(config, seed=0).train
    order, seeds = order_and_seeds(split)
    files = sorted((tmp_path / "train").rglob("*.png"))
    images = [Image.open(files[split.indices[place]]) for place in order.tolist()]
    wanted = [np.asarray(drawn(i, s)) for i, s in zip(images, seeds, strict=True)]
    np.testing.assert_allclose(cropped(split), np.stack(wanted).transpose(0, 3, 1, 2), atol=1e-3)


def test_images_in_memory_are_cropped_as_they_are_kept():
    images = torch.randint(0, 256, (10, 3, SIDE, SIDE), dtype=torch.uint8)
    part = part_in_memory("mine", images, torch.arange(10))
    split = ImageSplit(part, torch.arange(10), AS_IS, RESIZED)
    order, seeds = order_and_seeds(split)
    wanted = [drawn(images[i], s) for i, s in zip(order.tolist(), seeds, strict=True)]
    torch.testing.assert_close(cropped(split), torch.stack(wanted).float(), atol=1e-3, rtol=0)


def test_a_part_that_streams_and_knows_no_crops_gets_them_too():
    images = torch.randint(0, 256, (10, 3, SIDE, SIDE), dtype=torch.uint8)
    kept = part_in_memory("mine", images, torch.arange(10))

    def read(indices, size, progress):
        assert size == SIDE
        return images[indices]

    streaming = Part("mine", torch.arange(10), read, streams=True)
    splits = [ImageSplit(part, torch.arange(10), AS_IS, RESIZED) for part in (kept, streaming)]
    assert torch.equal(cropped(splits[0]), cropped(splits[1]))
    flipped = ImageSplit(streaming, torch.arange(10), AS_IS, Augmentation("resized-crop-flip"))
    assert not torch.equal(cropped(flipped), cropped(splits[1]))
    assert torch.equal(cropped(flipped), cropped(flipped))
