"""What chance does to training images, against torchvision's own transforms and by definition."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional

from mipp.augment_names import PRESETS, STEPS
from mipp.config import DataConfig, OptimConfig, dump_params, load_params, parse_params
from mipp.data import load_data
from mipp.data.augment import Augmentation, shifted
from mipp.data.image_set import Part, part_in_memory
from mipp.data.split import ImageSplit, Preparation
from mipp.errors import ConfigError
from mipp.process.ranks import Ranks
from mipp.training import Teacher, train
from mipp.training.epoch import share_of
from mipp.vision import torchvision

V2 = torchvision.transforms.v2
SIDE = 16
EVERY = tuple(step for step in STEPS if step not in ("crop", "trivialaugment"))


def pixels(n=40, channels=3, size=SIDE):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (n, channels, size, size), dtype=torch.uint8, generator=generator)


def split_of(images, augment, padding=None, mean=(0.0,) * 3):
    part = part_in_memory("mine", images, torch.arange(len(images)))
    as_is = Preparation(3, images.shape[-1], mean, (1 / 255,) * 3)  # pixels as they are
    augmentation = Augmentation(augment, padding, classes=len(images))
    return ImageSplit(part, torch.arange(len(images)), as_is, augmentation)


def drawn(split, batch_size=8):
    """Images and labels of an epoch."""
    batches = split.batches(batch_size, generator=generator(), augment=True)
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


def generator():
    return torch.Generator().manual_seed(5)


def order_and_seeds(n):
    """What an epoch draws first."""
    numbers = generator()
    order = torch.randperm(n, generator=numbers)
    return order, torch.randint(2**62, (n,), generator=numbers).tolist()


# As ever


def as_ever(images, augment, batch_size):
    """The images of an epoch up to version 0.1, drawn batch by batch."""
    numbers, made = generator(), []
    for rows in torch.randperm(len(images), generator=numbers).split(batch_size):
        batch = images[rows]
        if "crop" in augment:
            padded = functional.pad(batch, (SIDE // 8,) * 4)
            tops, lefts = torch.randint(2 * (SIDE // 8) + 1, (2, len(rows)), generator=numbers)
            at = zip(padded, tops.tolist(), lefts.tolist(), strict=True)
            batch = torch.stack([p[:, y : y + SIDE, x : x + SIDE] for p, y, x in at])
        if "flip" in augment:
            mirrored = torch.rand(len(rows), 1, 1, 1, generator=numbers) < 0.5
            batch = torch.where(mirrored, batch.flip(3), batch)
        made.append(batch)
    return torch.cat(made)


@pytest.mark.parametrize("augment", ["none", "crop", "flip", "crop-flip"])
@pytest.mark.parametrize("batch_size", [7, 40])
def test_the_first_names_give_the_images_that_they_always_gave(augment, batch_size):
    images = pixels()
    found, _ = drawn(split_of(images, augment), batch_size)
    torch.testing.assert_close(found, as_ever(images, augment, batch_size).float())


# Of each image


@pytest.mark.parametrize(
    "augment", ["flip", "cifar", "imagenet-train", ("crop",), EVERY[:-2], ("trivialaugment",)]
)
def test_a_place_is_dealt_the_same_whatever_the_batches(augment):
    split = split_of(pixels(), augment)
    assert torch.equal(drawn(split, 3)[0], drawn(split, 40)[0])
    assert not torch.equal(drawn(split, 3)[0], drawn(split_of(pixels(), "none"), 3)[0])


def test_every_crop_is_torchvisions_at_its_place_and_all_of_them_occur():
    images, corners = pixels(), torch.randint(5, (2, 40), generator=generator())
    crop = torchvision.transforms.functional.crop
    padded = functional.pad(images, (2,) * 4)
    wanted = [crop(p, *c, SIDE, SIDE) for p, c in zip(padded, corners.T.tolist(), strict=True)]
    assert torch.equal(shifted(images, 2, corners.numpy()), torch.stack(wanted))
    shifts = Augmentation(("crop",), 1).draw([900], SIDE, generator())[0].shifts
    counts = np.bincount(3 * shifts[0] + shifts[1])
    assert len(counts) == 9
    assert counts.min() > 900 / 9 / 2


@pytest.mark.parametrize("augment", ["crop", ("crop",)])
@pytest.mark.parametrize(("padding", "farthest"), [(None, 2), (1, 1), (3, 3)])
def test_a_crop_shifts_by_the_padding_or_an_eighth_of_the_side(augment, padding, farthest):
    found, _ = drawn(split_of(pixels(200), augment, padding))
    rows = (found != 0).any(1).any(2)  # (n, h): no pixel but of the border is 0
    assert set(rows.int().argmax(1).tolist()) == set(range(farthest + 1))


def test_flips_mirror_about_half_of_the_images_left_to_right():
    images = pixels(400)
    order, _ = order_and_seeds(400)
    before = images[order].float()
    found, _ = drawn(split_of(images, "flip"))
    same, mirrored = ((found - b).abs().amax((1, 2, 3)) < 0.1 for b in (before, before.flip(3)))
    assert torch.equal(same, ~mirrored)
    assert 150 < mirrored.sum() < 250


@pytest.mark.parametrize(
    ("augment", "own"),
    [
        ("randaugment", V2.RandAugment()),
        ("trivialaugment", V2.TrivialAugmentWide()),
        (("trivialaugment", "cutout"), V2.Compose([
            V2.TrivialAugmentWide(),
            V2.RandomErasing(p=1, scale=(0.25, 0.25), ratio=(1.0, 1.0), value=[0.0] * 3),
        ])),
    ],
    ids=["randaugment", "trivialaugment", "both"],
)  # fmt: skip
def test_images_are_those_that_torchvisions_transforms_draw_from_a_number_each(augment, own):
    images = pixels(12)
    found, _ = drawn(split_of(images, augment))
    with torch.random.fork_rng():
        for image, place, seed in zip(found, *order_and_seeds(12), strict=True):
            torch.manual_seed(seed + 1)
            torch.testing.assert_close(image, own(images[place]).float())


def test_a_square_of_half_the_side_is_cut_out_in_the_mean_colour():
    mean = tuple(channel / 255 for channel in (50, 100, 150))
    before, _ = drawn(split_of(pixels(), "none", mean=mean))
    found, _ = drawn(split_of(pixels(), "cutout", mean=mean))
    cut = found.abs().amax(1) < 1e-4  # (n, h, w), normalised
    for image, where, old in zip(found, cut, before, strict=True):
        rows, columns = where.sum(1).max(), where.sum(0).max()
        assert (rows, columns) >= (SIDE // 2, SIDE // 2)
        assert ((image - old).abs().amax(0) > 1e-4).sum() <= (SIDE // 2) ** 2


@pytest.mark.parametrize("augment", ["cutout", "randaugment", "trivialaugment", "resized-crop"])
def test_grey_images_that_are_seen_as_colour_are_varied_too(augment):
    part = part_in_memory("grey", pixels(100, channels=1), torch.arange(100))
    shown = Preparation(3, SIDE, (0.0,) * 3, (1 / 255,) * 3)
    split = ImageSplit(part, torch.arange(100), shown, Augmentation(augment))
    found, _ = drawn(split)
    assert found.shape == (100, 3, SIDE, SIDE)
    assert torch.equal(found, found[:, :1].expand_as(found))  # still grey


# Of batches


def neighbours(batch_size=8):
    """Images and labels of an epoch before they are mixed, and each one's neighbour."""
    images, labels = drawn(split_of(pixels(), "none"), batch_size)
    parts = [(i.roll(1, 0), n.roll(1, 0)) for i, n in zip(
        images.split(batch_size), labels.split(batch_size), strict=True)]  # fmt: skip
    return images, labels, *(torch.cat(some) for some in zip(*parts, strict=True))


def test_mixup_mixes_images_and_labels_by_the_same_share():
    images, labels, others, other_labels = neighbours()
    found, soft = drawn(split_of(pixels(), "mixup"))
    share = soft.gather(1, labels[:, None])
    assert torch.allclose(soft.gather(1, other_labels[:, None]), 1 - share)
    wanted = share[..., None, None] * images + (1 - share[..., None, None]) * others
    torch.testing.assert_close(found, wanted, atol=0.01, rtol=0)
    assert len(share.unique()) == 5  # another one for each batch


def test_cutmix_takes_a_box_of_the_neighbour_and_its_area_of_the_label():
    images, labels, others, other_labels = neighbours()
    found, soft = drawn(split_of(pixels(), "cutmix"))
    own, other = ((found - i).abs().amax(1) < 0.01 for i in (images, others))
    assert (own | other).all()
    share = soft.gather(1, labels[:, None])[:, 0]
    torch.testing.assert_close(own.float().mean((1, 2)), share, atol=0.01, rtol=0)
    assert torch.allclose(soft.gather(1, other_labels[:, None])[:, 0], 1 - share)


def test_of_mixup_and_cutmix_chance_takes_one_for_each_batch():
    images, _, others, _ = neighbours(2)
    found, _ = drawn(split_of(pixels(), ("cutmix", "mixup")), 2)
    own, other = ((found - i).abs().amax(1) < 0.01 for i in (images, others))
    cut = (own | other).flatten(1).all(1).view(-1, 2).all(1)
    assert 0 < cut.sum() < len(cut)


@pytest.mark.parametrize("how", ["labels", "a teacher", "bfloat16"])
def test_a_network_learns_from_shares_of_classes(how):
    data = load_data(DataConfig(augment=("crop", "mixup"), size=8, calibration=8), seed=0)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    precision = "bfloat16" if how == "bfloat16" else "float32"
    config = OptimConfig(epochs=3, label_smoothing=0.1, precision=precision)
    teacher = Teacher(copy.deepcopy(model), 0.1, 4.0) if how == "a teacher" else None
    some, cpu = data.train.first(512), torch.device("cpu")
    history = train(model, some, data.validation, config, seed=0, device=cpu, teacher=teacher)
    assert history[-1].validation_accuracy > 0.6
    assert 0.3 < history[-1].train_accuracy <= 1


def test_all_of_it_is_decided_by_the_generator_and_leaves_torchs_alone():
    split = split_of(pixels(), EVERY)
    before = torch.random.get_rng_state()
    first, again = drawn(split), drawn(split)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    torch.rand(3)
    assert torch.equal(drawn(split)[0], first[0])


# Names


def test_a_list_may_be_in_any_order_and_hold_presets():
    params = load_params(overrides=["data.augment=[mixup, cutout, imagenet-train]"])
    assert params.data.augment == ("mixup", "cutout", "imagenet-train")
    assert parse_params(dump_params(params)) == params
    steps = Augmentation(params.data.augment).steps
    assert steps == ("resized-crop", "flip", "cutout", "mixup")


@pytest.mark.parametrize("name", PRESETS)
def test_every_name_can_be_written(name):
    assert load_params(overrides=[f"data.augment={name}"]).data.augment == name


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("cifra", r"'cifra' is unknown.\nExpected names .*did you mean cifar"),
        ("[crop, mixpu]", r"'mixpu' is unknown.\nExpected .*did you mean mixup"),
        ("[cifar, flip]", r"asks for flip twice.\nExpected each step once.*leave one out"),
        ("[cifar, imagenet-train]", r"asks for resized-crop and crop"),
        ("[randaugment, trivialaugment]", r"asks for randaugment and trivialaugment"),
        ("{crop: 2}", r"cannot be read.\nExpected a name .*got \{'crop': 2\}; write"),
        ("7", r"cannot be read.*\n.*got 7"),
    ],
)
def test_what_cannot_be_done_is_refused(written, says):
    with pytest.raises(ConfigError, match="(?s)data.augment " + says):
        load_params(overrides=[f"data.augment={written}"])


# A share of every batch


class Noted:
    """A part that streams; `read` has the numbers of all images that were read."""

    def __init__(self, images):
        self.read = []

        def read(indices, size, progress):
            self.read += indices.tolist()
            return images[indices]

        self.part = Part("noted", torch.arange(len(images)), read, streams=True)

    def split(self, augment):
        as_is = Preparation(3, SIDE, (0.5,) * 3, (0.25,) * 3)
        augmentation = Augmentation(augment, classes=len(self.part.labels))
        return ImageSplit(self.part, torch.arange(len(self.part.labels)), as_is, augmentation, 0)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize(
    "augment",
    ["none", "crop-flip", "cifar", ["mixup"], ["cutmix"], ["flip", "cutout", "mixup", "cutmix"]],
)
def test_shares_of_a_batch_are_it_and_only_they_are_read(augment, size):
    images = pixels(19)
    whole = list(Noted(images).split(augment).batches(8, generator=generator(), augment=True))
    mixes = not {"mixup", "cutmix"}.isdisjoint(Augmentation(augment).steps)
    for rank in range(size):
        noted, share = Noted(images), partial(share_of, ranks=Ranks(rank, size))
        parts = noted.split(augment).batches(8, generator=generator(), augment=True, share=share)
        for (x, y), (batch, labels) in zip(parts, whole, strict=True):
            own = share(len(batch))
            assert torch.equal(x, batch[own])
            assert torch.equal(y, labels[own])
        shared = [share(len(batch)) for batch, _ in whole]
        read = sum(own.stop - own.start for own in shared)
        beside = sum(own != slice(0, len(b)) for own, (b, _) in zip(shared, whole, strict=True))
        assert len(noted.read) == read + mixes * beside
