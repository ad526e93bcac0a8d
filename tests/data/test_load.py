"""Splitting, shaping and normalising a set, whatever its source."""

import pytest
import torch

from mipp.config import DataConfig
from mipp.data import DATA_SETS, ImageSet, Part, load_data
from mipp.errors import DataError

DIGITS = DataConfig(calibration=256)


def rows(split):
    return split.indices.tolist()


def test_train_and_validation_divide_the_training_images():
    data = load_data(DIGITS, seed=3)
    together = sorted(rows(data.train) + rows(data.validation))
    assert together == list(range(1437))
    assert len(data.validation) == 144  # a tenth of 1,437, rounded


def test_calibration_is_drawn_from_train_only():
    data = load_data(DIGITS, seed=3)
    assert len(set(rows(data.calibration))) == 256
    assert set(rows(data.calibration)) <= set(rows(data.train))
    assert data.calibration.part is data.train.part is not data.test.part


def test_calibration_of_a_set_sorted_by_class_is_a_random_sample(parquet_set):
    root, _ = parquet_set
    config = DataConfig(name="parquet", root=str(root), calibration=20, validation=0)
    labels = load_data(config, seed=0).calibration.labels
    assert set(labels.tolist()) == {0, 1, 2, 3}  # the first 20 rows hold classes 0 and 1 only
    assert labels.tolist() != sorted(labels.tolist())


def test_larger_calibration_contains_the_smaller_one():
    small, large = (load_data(DataConfig(calibration=n), seed=0).calibration for n in (50, 90))
    assert rows(large)[:50] == rows(small)


def test_same_seed_gives_the_same_splits():
    first, second = load_data(DIGITS, seed=5), load_data(DIGITS, seed=5)
    for part in ("train", "calibration", "validation", "test"):
        assert rows(getattr(first, part)) == rows(getattr(second, part))
        assert getattr(first, part).fingerprint == getattr(second, part).fingerprint


def test_another_seed_divides_differently_but_keeps_the_test_images():
    first, second = load_data(DIGITS, seed=5), load_data(DIGITS, seed=6)
    for part in ("train", "calibration", "validation"):
        assert rows(getattr(first, part)) != rows(getattr(second, part))
    assert first.test.fingerprint == second.test.fingerprint


def test_loading_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    load_data(DIGITS, seed=5)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_validation_share_gives_an_empty_split():
    data = load_data(DataConfig(validation=0), seed=0)
    assert len(data.validation) == 0
    assert list(data.validation.batches(8)) == []
    assert len(data.train) == 1437


def test_configured_size_wins_over_the_model_and_the_model_over_the_set():
    assert load_data(DIGITS, seed=0).shape == (1, 8, 8)
    assert load_data(DIGITS, seed=0, size=28).shape == (1, 28, 28)
    data = load_data(DataConfig(size=32), seed=0, size=28, channels=3)
    images, _ = next(data.train.batches(4))
    assert data.shape == (3, 32, 32) == tuple(images.shape[1:])


def test_grey_images_are_repeated_for_a_colour_model():
    grey = load_data(DIGITS, seed=0)
    colour = load_data(DIGITS, seed=0, channels=3)
    one, three = (next(data.test.batches(8))[0] for data in (grey, colour))
    assert torch.equal(three, one.repeat(1, 3, 1, 1))


def test_colour_images_are_refused_for_a_grey_model(parquet_set):
    root, _ = parquet_set
    config = DataConfig(name="parquet", root=str(root), calibration=10)
    with pytest.raises(DataError, match=r"Expected 1 channels, got 3 \(only 1 can be repeated"):
        load_data(config, seed=0, channels=1)


def test_images_are_normalised_by_the_configured_mean_and_deviation():
    config = DataConfig(calibration=8, mean=(0.25,), std=(0.5,))
    data, raw = load_data(config, seed=0), load_data(DataConfig(mean=(0,), std=(1,)), seed=0)
    images, unscaled = (next(d.test.batches(360))[0] for d in (data, raw))
    assert unscaled.min() == 0
    assert unscaled.max() == 1
    torch.testing.assert_close(images, (unscaled - 0.25) / 0.5)


def test_each_channel_has_its_own_mean_and_deviation(parquet_set):
    root, pixels = parquet_set
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    config = DataConfig(name="parquet", root=str(root), calibration=9, mean=mean, std=std)
    data = load_data(config, seed=0)
    images, _ = next(data.train.batches(5))
    expected = torch.from_numpy(pixels[data.train.indices[:5]]).permute(0, 3, 1, 2) / 255
    expected = (expected - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(images, expected)


@pytest.mark.parametrize("field", ["mean", "std"])
def test_normalisation_with_the_wrong_number_of_channels_is_refused(field):
    config = DataConfig(**{field: (0.5, 0.5)})
    with pytest.raises(DataError, match=rf"data\.{field} does not fit.*\nExpected 1 values.*got 2"):
        load_data(config, seed=0)


def test_calibration_larger_than_train_is_refused():
    with pytest.raises(DataError, match=r"at most its 1293 training images.*got 1294"):
        load_data(DataConfig(calibration=1294), seed=0)


def test_unknown_set_is_refused_with_the_nearest_name():
    with pytest.raises(DataError, match=r"'minst'.*did you mean mnist.*choose from cifar10"):
        load_data(DataConfig(name="minst"), seed=0)


@pytest.mark.parametrize("name", sorted(set(DATA_SETS) - {"digits", "digits-deformed"}))
def test_missing_set_lists_every_place_it_looked(name, monkeypatch, tmp_path):
    monkeypatch.setenv("MIPP_DATA", str(tmp_path / "named"))
    with pytest.raises(DataError, match=r"not found.\nLooked in .*named, \.\./shared/data: exp"):
        load_data(DataConfig(name=name), seed=0)


@pytest.mark.parametrize("name", sorted(set(DATA_SETS) - {"digits", "digits-deformed"}))
def test_given_root_is_the_only_place(name, monkeypatch, tmp_path):
    monkeypatch.setenv("MIPP_DATA", str(tmp_path / "named"))
    with pytest.raises(DataError, match=r"Looked in \S*mine: expected"):
        load_data(DataConfig(name=name, root=str(tmp_path / "mine")), seed=0)


@pytest.mark.parametrize("sample", ["random", "balanced"])
def test_a_calibration_sample_is_drawn_by_the_labels_alone(sample, monkeypatch):
    def read(indices, size, progress):
        raise AssertionError("an image is read")

    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    part = Part("rare/train", labels, read, streams=True)
    images = ImageSet(("a", "b", "c"), 1, 8, (0.0,), (1.0,), part, part)
    monkeypatch.setattr("mipp.data.load._load", lambda config, seed: images)
    config = DataConfig(calibration=45, calibration_sample=sample, validation=0)
    found = load_data(config, seed=1).calibration.labels.bincount().tolist()
    assert found == [18, 17, 10] if sample == "balanced" else found[0] > 20
