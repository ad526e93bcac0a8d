"""Sets in torchvision's layout, from files made on the spot; nothing is downloaded."""

import hashlib
import pickle

import numpy as np
import pytest
import torch

from mipp.config import DataConfig
from mipp.data import load_data
from mipp.errors import DataError
from mipp.vision import torchvision


def mnist(root, **changes):
    return DataConfig(name="mnist", root=str(root), calibration=10, **changes)


def test_mnist_pixels_and_labels_come_through(mnist_set):
    root, pixels = mnist_set
    train = load_data(mnist(root, mean=(0,), std=(1,)), seed=0).train
    images, labels = next(train.batches(60))
    assert torch.equal(labels, train.indices % 10)
    np.testing.assert_allclose(images[:, 0] * 255, pixels[train.indices], atol=1e-4)


def test_mnist_has_its_published_normalisation(mnist_set):
    preparation = load_data(mnist(mnist_set[0]), seed=0).train.preparation
    assert (preparation.mean, preparation.std) == ((0.1307,), (0.3081,))


def test_mnist_is_found_by_environment_variable(mnist_set, monkeypatch):
    monkeypatch.setenv("MIPP_DATA", str(mnist_set[0]))
    data = load_data(DataConfig(name="mnist", calibration=10), seed=0)
    assert (len(data.train), len(data.validation), len(data.test)) == (54, 6, 20)
    assert data.shape == (1, 28, 28)


def test_mnist_is_found_beside_the_current_directory(mnist_set, monkeypatch, tmp_path):
    (tmp_path / "shared").mkdir()
    mnist_set[0].rename(tmp_path / "shared" / "data")
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    assert load_data(DataConfig(name="mnist", calibration=10), seed=0).classes == 10


def test_nothing_is_fetched_unless_told(tmp_path, monkeypatch):
    monkeypatch.setattr(
        torchvision.datasets.MNIST, "download", lambda self: pytest.fail("downloads")
    )
    with pytest.raises(DataError, match=r"(?s)'mnist' was not found.*data\.download=true"):
        load_data(mnist(tmp_path), seed=0)


def test_download_that_fails_says_where_to_put_the_files(tmp_path, monkeypatch):
    def offline(self):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", offline)
    with pytest.raises(DataError, match=r"(?s)cannot be downloaded to .*got: Error downloading"):
        load_data(mnist(tmp_path, download=True), seed=0)


def test_files_on_disk_are_used_before_any_download(mnist_set, monkeypatch):
    monkeypatch.setattr(
        torchvision.datasets.MNIST, "download", lambda self: pytest.fail("downloads")
    )
    assert load_data(mnist(mnist_set[0], download=True), seed=0).classes == 10


def write_cifar10(folder, pixels, labels, monkeypatch):
    """CIFAR-10's pickles, of which torchvision checks the sums."""
    folder.mkdir(parents=True)
    entries = {}
    for name, rows in (("data_batch_1", slice(0, 20)), ("test_batch", slice(20, None))):
        flat = pixels[rows].transpose(0, 3, 1, 2).reshape(-1, 3072)
        content = pickle.dumps({"data": flat, "labels": labels[rows]}, protocol=2)
        (folder / name).write_bytes(content)
        entries[name] = [[name, hashlib.md5(content).hexdigest()]]
    meta = pickle.dumps({"label_names": [f"class {i}" for i in range(10)]}, protocol=2)
    (folder / "batches.meta").write_bytes(meta)
    cifar = torchvision.datasets.CIFAR10
    monkeypatch.setattr(cifar, "train_list", entries["data_batch_1"])
    monkeypatch.setattr(cifar, "test_list", entries["test_batch"])
    monkeypatch.setattr(cifar, "meta", {**cifar.meta, "md5": hashlib.md5(meta).hexdigest()})


def test_cifar10_pixels_come_through_channels_first(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
    labels = [i % 10 for i in range(30)]
    write_cifar10(tmp_path / "cifar-10-batches-py", pixels, labels, monkeypatch)
    config = DataConfig(
        name="cifar10", root=str(tmp_path), calibration=5, mean=(0,) * 3, std=(1,) * 3
    )
    data = load_data(config, seed=0)
    images, got = next(data.test.batches(10))
    assert data.shape == (3, 32, 32)
    assert got.tolist() == labels[20:]
    expected = pixels[20:].transpose(0, 3, 1, 2)
    np.testing.assert_allclose(images * 255, expected, atol=1e-4)


def test_real_mnist_has_its_published_counts_and_statistics(real_data):
    config = DataConfig(name="mnist", root=str(real_data), validation=0)
    data = load_data(config, seed=0)
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    sums = [(x.double().sum(), x.double().square().sum()) for x, _ in data.train.batches(4096)]
    total, squares = (float(sum(column)) / (60_000 * 784) for column in zip(*sums, strict=True))
    assert abs(total) < 1e-3
    assert abs(squares - 1) < 1e-3
