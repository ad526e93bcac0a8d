"""Deformed sets: which deformation an image gets, what it does, and that it never changes.

Pictures of their own coordinates show where each pixel was sampled, so every kind is checked by
what it did to an image, not by what it says it did.
"""

import numpy as np
import pytest
import torch
from scipy import ndimage

from mipp.config import DataConfig
from mipp.data import deform, load_data
from mipp.data.deform import KINDS, deform_set, draw_deformations
from mipp.data.image_set import ImageSet, Part, part_in_memory
from mipp.errors import DataError

SIDE = 64
HALF = (SIDE - 1) / 2  # the centre, in pixels
MANY = 1200
RAW = DataConfig(name="digits-deformed", mean=(0,), std=(1,), calibration=8)
PARTS = ("train", "calibration", "validation", "test")


def set_of(train, test=None):
    """Colour set with these images; the test images are the training images unless given."""
    parts = (
        part_in_memory(f"set/{name}", images, torch.zeros(len(images), dtype=torch.int64))
        for name, images in (("train", train), ("test", train if test is None else test))
    )
    return ImageSet(("a",), 3, train.shape[-1], (0,) * 3, (1,) * 3, *parts)


def noise(n, channels=1, size=16):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (n, channels, size, size), dtype=torch.uint8, generator=generator)


def read_all(part, size=None, images=None):
    n = len(part.labels) if images is None else images
    return part.read(torch.arange(n), size or SIDE, "")


def repeated(image, n=MANY):
    return torch.from_numpy(image.astype(np.uint8)).expand(n, *image.shape)


@pytest.fixture(scope="module")
def kinds():
    """Kind of each of the images of a part with seed 0."""
    return np.array(KINDS)[draw_deformations("set/train", 0, MANY).kind]


@pytest.fixture(scope="module")
def sampled():
    """Where each pixel was sampled, (MANY, y, x, 2) as (x, y) from the centre; NaN outside."""
    y, x = np.mgrid[:SIDE, :SIDE] * 4  # whole steps of 4, so that bytes tell a quarter of a pixel
    ramps = repeated(np.stack([x, y, np.full_like(x, 255)]))
    seen = read_all(deform_set(set_of(ramps), 0).train).numpy().astype(float)
    coordinates = np.moveaxis(seen[:, :2], 1, -1) / 4 - HALF
    coordinates[seen[:, 2] < 255] = np.nan
    return coordinates


@pytest.fixture(scope="module")
def fitted(sampled):
    """Best affine map (MANY, 2, 3) from an output pixel to where it was sampled; its worst miss."""
    y, x = np.mgrid[:SIDE, :SIDE] - HALF
    outputs = np.stack([x, y, np.ones_like(x)], axis=-1)
    maps, misses = [], []
    for coordinates in sampled:
        inside = ~np.isnan(coordinates[..., 0])
        solution = np.linalg.lstsq(outputs[inside], coordinates[inside], rcond=None)[0]
        maps.append(solution.T)
        misses.append(np.abs(outputs[inside] @ solution - coordinates[inside]).max())
    return np.array(maps), np.array(misses)


def test_each_kind_is_as_likely_as_any_other():
    n = 60_000
    counts = draw_deformations("mnist/train", 0, n).kind.bincount(minlength=6)
    deviation = (n * (1 / 6) * (5 / 6)) ** 0.5
    assert counts.shape == (6,)
    assert ((counts - n / 6).abs() < 4 * deviation).all()


def test_undeformed_images_and_no_others_are_as_they_were(kinds):
    images = noise(MANY)
    after = read_all(deform_set(set_of(images), 0).train, 16)
    same = (images == after).flatten(1).all(1).numpy()
    assert after.dtype == torch.uint8
    assert same[kinds == "none"].all()
    assert same[kinds != "none"].mean() < 0.01  # a draw next to nothing moves no byte


def test_every_kind_but_the_elastic_is_affine(kinds, fitted):
    straight = fitted[1] < 0.5  # pixels; the bytes of the ramps tell an eighth and what it adds
    assert (straight == (kinds != "elastic")).all()


def test_rotation_turns_about_the_centre_by_up_to_30_degrees_either_way(kinds, fitted):
    maps = fitted[0][kinds == "rotation"]
    angles = np.degrees(np.arctan2(maps[:, 0, 1], maps[:, 0, 0]))
    turns = np.stack([[np.cos(a), np.sin(a)] for a in np.radians(angles)])
    np.testing.assert_allclose(maps[:, 0, :2], turns, atol=4e-3)
    np.testing.assert_allclose(maps[:, 1, :2], np.stack([-turns[:, 1], turns[:, 0]], 1), atol=4e-3)
    np.testing.assert_allclose(maps[:, :, 2], 0, atol=0.05)
    spans(angles, -30, 30)


def test_shear_shifts_rows_by_up_to_three_tenths_of_their_height(kinds, fitted):
    maps = fitted[0][kinds == "shear"]
    shear = maps[:, 0, 1].copy()
    maps[:, 0, 1] = 0
    np.testing.assert_allclose(maps, np.tile(np.eye(2, 3), (len(maps), 1, 1)), atol=0.05)
    spans(shear, -0.3, 0.3)


def test_scale_enlarges_both_axes_alike_by_factors_of_7_to_13_tenths(kinds, fitted):
    maps = fitted[0][kinds == "scale"]
    scale = 1 / maps[:, 0, 0]
    np.testing.assert_allclose(maps[:, 1, 1], maps[:, 0, 0], atol=4e-3)
    np.testing.assert_allclose(maps[:, [0, 1], [1, 0]], 0, atol=4e-3)
    np.testing.assert_allclose(maps[:, :, 2], 0, atol=0.05)
    spans(scale, 0.7, 1.3)


def test_translation_moves_each_axis_by_up_to_15_hundredths_of_the_side(kinds, fitted):
    maps = fitted[0][kinds == "translation"]
    moves = maps[:, :, 2] / SIDE
    np.testing.assert_allclose(maps[:, :, :2], np.tile(np.eye(2), (len(maps), 1, 1)), atol=4e-3)
    spans(moves[:, 0], -0.15, 0.15)
    spans(moves[:, 1], -0.15, 0.15)
    assert abs(np.corrcoef(moves.T)[0, 1]) < 4 / len(maps) ** 0.5


def spans(drawn, low, high):
    """Assert that draws lie in a range, reach near its ends and are spread evenly over it."""
    share = (drawn - low) / (high - low)
    assert share.min() > -0.02
    assert share.max() < 1.02
    assert share.min() < 0.05
    assert share.max() > 0.95
    assert abs(share.mean() - 0.5) < 4 * 12**-0.5 / len(drawn) ** 0.5


def test_elastic_displacement_is_a_twentieth_of_the_side_and_smooth(kinds, sampled):
    y, x = np.mgrid[:SIDE, :SIDE] - HALF
    moves = (sampled[kinds == "elastic"] - np.stack([x, y], axis=-1)) / SIDE
    # 0.06 at the 4 x 4 nodes; between them a cubic averages its neighbours
    assert 0.045 < np.nanstd(moves) < 0.055
    assert np.nanmax(np.abs(moves)) < 0.16
    assert np.nanmax(np.abs(np.diff(moves, axis=1))) * SIDE < 1.5  # of a pixel, per pixel


@pytest.mark.parametrize("kind", ["rotation", "shear", "scale", "translation"])
def test_pixels_match_scipy_for_the_map_that_the_ramps_show(kind, kinds, sampled, fitted):
    y, x = np.mgrid[:SIDE, :SIDE] - HALF
    blob = 250 * np.exp(-((x - 6) ** 2 / 300 + (y + 4) ** 2 / 120))
    rows = np.flatnonzero(kinds == kind)[:20]
    after = read_all(deform_set(set_of(repeated(blob[None])), 0).train)[rows, 0]
    inside = ~np.isnan(sampled[rows, ..., 0])
    assert inside.mean() > 0.7
    for image, shown, within in zip(after, fitted[0][rows], inside, strict=True):
        matrix = shown[::-1, [1, 0]]  # scipy counts (y, x), from the corner
        offset = shown[::-1, 2] + HALF - matrix @ [HALF, HALF]
        expected = ndimage.affine_transform(np.floor(blob), matrix, offset, order=1, mode="nearest")
        # the ramps are an eighth of a pixel out at most, where the blob falls by up to 20 a pixel
        np.testing.assert_allclose(image[within], expected[within], atol=4)


def test_what_comes_from_outside_is_black(kinds):
    white = repeated(np.full((1, SIDE, SIDE), 255))
    after = read_all(deform_set(set_of(white), 0).train)[:, 0]
    left, right = after[:, 32, 0], after[:, 32, -1]
    moved = kinds == "translation"
    # all but the moves of less than a pixel, of up to 9.6
    assert ((left == 0) | (right == 0))[moved].float().mean() > 0.8
    assert (after[:, 32, 32] == 255).all()


@pytest.mark.parametrize("size", [16, 29])
def test_an_image_is_deformed_alike_whichever_it_is_read_with(size, monkeypatch):
    part = deform_set(set_of(noise(300)), 0).train
    every = read_all(part, size)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    for batch in (1, 7, 300):
        read = torch.cat([part.read(rows, size, "") for rows in order.split(batch)])
        assert torch.equal(read, every[order])
    monkeypatch.setattr(deform, "_CHUNK", 3 * size**2)
    assert torch.equal(read_all(part, size), every)


def test_an_image_is_deformed_alike_however_many_the_part_has():
    images = noise(300)
    few, many = (deform_set(set_of(images[:n]), 0).train for n in (40, 300))
    assert torch.equal(read_all(few, 16), read_all(many, 16)[:40])


def test_channels_of_an_image_are_deformed_alike():
    grey = noise(60)
    one, three = (
        read_all(deform_set(set_of(images), 0).train, 16)
        for images in (grey, grey.expand(-1, 3, -1, -1))
    )
    assert torch.equal(three, one.expand(-1, 3, -1, -1))


def test_reading_leaves_the_plain_images_as_they_were():
    images = noise(60)
    before = images.clone()
    kept = Part("kept", torch.zeros(60, dtype=torch.int64), lambda indices, size, name: images)
    plain = set_of(images)
    deformed = deform_set(ImageSet(("a",), 1, 16, (0,), (1,), kept, plain.test), 0)
    assert not torch.equal(read_all(deformed.train, 16), before)
    assert torch.equal(images, before)


def test_no_images_can_be_read():
    part = deform_set(set_of(noise(5)), 0).train
    assert read_all(part, 16, images=0).shape == (0, 1, 16, 16)


def test_same_seed_deforms_alike_and_another_does_not():
    first, again, other = (
        read_all(deform_set(set_of(noise(300)), seed).train, 16) for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert share_alike(first, other) < 0.1  # 1 in 36 is undeformed under both


def test_train_and_test_images_are_deformed_independently():
    images = deform_set(set_of(noise(300)), 0)
    assert share_alike(read_all(images.train, 16), read_all(images.test, 16)) < 0.1


def share_alike(first, second):
    return (first == second).flatten(1).all(1).float().mean()


def test_the_part_says_that_it_is_deformed_and_by_which_seed():
    plain = set_of(noise(5)).train
    streamed = Part("set/train", plain.labels, plain.read, streams=True, identity="3 MB")
    images = set_of(noise(5))
    images = deform_set(ImageSet(("a",), 1, 16, (0,), (1,), streamed, images.test), 7)
    assert images.train.name == "set/train deformed by seed 7"
    assert images.train.identity.startswith("3 MB deformed by seed 7 ")
    assert (images.train.streams, images.test.streams) == (True, False)
    assert images.train.labels is plain.labels


def test_a_bar_is_named_by_whoever_reads():
    named = []

    def read(indices, size, progress):
        named.append(progress)
        return noise(len(indices))

    images = set_of(noise(5))
    part = Part("set/train", images.train.labels, read)
    deformed = deform_set(ImageSet(("a",), 1, 16, (0,), (1,), part, images.test), 0)
    deformed.train.read(torch.arange(3), 16, "reading")
    assert named == ["reading"]


def test_fingerprints_tell_deformed_from_plain_and_seed_from_seed():
    plain, first, again, other = (
        load_data(DataConfig(name=name, calibration=8), seed=seed)
        for name, seed in (
            ("digits", 0),
            ("digits-deformed", 0),
            ("digits-deformed", 0),
            ("digits-deformed", 1),
        )
    )
    for part in PARTS:
        prints = [getattr(data, part).fingerprint for data in (plain, first, again, other)]
        assert prints[1] == prints[2]
        assert len(set(prints)) == 3


def test_another_range_is_another_fingerprint(monkeypatch):
    before = load_data(RAW, seed=0).test.fingerprint
    monkeypatch.setattr(deform, "SHEAR", 0.2)
    assert load_data(RAW, seed=0).test.fingerprint != before


def test_deformed_digits_are_the_digits_with_five_in_six_deformed():
    plain = load_data(RAW.model_copy(update={"name": "digits"}), seed=0)
    data = load_data(RAW, seed=0)
    assert (data.name, data.shape, data.classes) == ("digits-deformed", (1, 8, 8), 10)
    for part in PARTS:
        assert torch.equal(getattr(data, part).indices, getattr(plain, part).indices)
        assert torch.equal(getattr(data, part).labels, getattr(plain, part).labels)
    before, after = (next(d.train.batches(2000))[0] for d in (plain, data))
    assert after.dtype == torch.float32
    assert (after.min(), after.max()) == (0, 1)
    torch.testing.assert_close(after * 255, (after * 255).round(), rtol=0, atol=1e-4)
    n = len(before)
    assert abs(share_alike(before, after) - 1 / 6) < 4 * (5 / 36 / n) ** 0.5


def test_deformed_sets_are_normalised_as_the_plain_ones():
    plain, data = (load_data(DataConfig(name=n), seed=0) for n in ("digits", "digits-deformed"))
    assert data.train.preparation == plain.train.preparation


def test_deformed_mnist_is_read_from_the_files_of_mnist(mnist_set):
    root, pixels = mnist_set
    config = RAW.model_copy(update={"name": "mnist-deformed", "root": str(root)})
    data = load_data(config, seed=0)
    assert (data.name, data.train.part.name) == ("mnist-deformed", "mnist/train deformed by seed 0")
    after = (next(data.train.batches(60))[0][:, 0] * 255).round().numpy()
    same = (after == pixels[data.train.indices]).all((1, 2))
    undeformed = draw_deformations("mnist/train", 0, 60).kind[data.train.indices] == 0
    assert same.tolist() == undeformed.tolist()


@pytest.mark.parametrize("base", ["digits", "mnist", "fashion-mnist", "cifar10", "cifar100"])
def test_unknown_set_lists_the_deformed_ones(base):
    with pytest.raises(DataError, match=rf"choose from .*\b{base}-deformed,"):
        load_data(DataConfig(name="nosuch"), seed=0)
