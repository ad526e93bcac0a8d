"""Tiny image sets on disk, in every layout that the loaders read."""

import os
from pathlib import Path

import numpy as np
import pytest
from tiny_sets import pictures, write_folder, write_idx, write_parquet


@pytest.fixture(autouse=True)
def no_set_from_outside(monkeypatch, tmp_path):
    """No test finds a real set unless it asks for `real_data`."""
    monkeypatch.delenv("MIPP_DATA", raising=False)
    elsewhere = tmp_path / "elsewhere" / "deep"
    elsewhere.mkdir(parents=True)
    monkeypatch.chdir(elsewhere)


_REPOSITORY = Path(__file__).parents[2]
_PLACES = [Path(os.environ.get("MIPP_DATA", "")), _REPOSITORY.parent / "shared" / "data"]


@pytest.fixture
def real_data():
    """Folder with the real MNIST and the JPEG CIFAR-10."""
    for place in _PLACES:
        if (place / "MNIST" / "raw").is_dir() and (place / "cifar10-jpeg").is_dir():
            return place
    pytest.skip("needs real MNIST and CIFAR-10: neither MIPP_DATA nor ../shared/data holds them")


@pytest.fixture
def parquet_set(tmp_path):
    """40 train and 12 test images of 4 classes, sorted by class; the folder and the pixels."""
    root = tmp_path / "sets" / "tiny-parquet"
    root.mkdir(parents=True)
    pixels = pictures(40)
    metadata = {"class_names": "ant,bee,cow,dog"}
    write_parquet(root / "train.parquet", pixels, np.repeat(range(4), 10), metadata=metadata)
    write_parquet(root / "test.parquet", pictures(12, seed=1), np.repeat(range(4), 3))
    return root, pixels


@pytest.fixture
def folder_set(tmp_path):
    """ImageNet layout: 20 train and 8 val images of 2 classes; the folder and the train pixels."""
    root = tmp_path / "sets" / "tiny-folder"
    pixels = write_folder(root / "train", ["ant", "bee"], 10)
    write_folder(root / "val", ["ant", "bee"], 4, seed=1)
    return root, pixels


@pytest.fixture
def mnist_set(tmp_path):
    """60 train and 20 test images in MNIST's own file format; the folder and the train pixels."""
    raw = tmp_path / "sets" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    train, test = (pictures(n, size=28, channels=1) for n in (60, 20))
    for part, pixels in (("train", train), ("t10k", test)):
        write_idx(raw / f"{part}-images-idx3-ubyte", pixels)
        labels = (np.arange(len(pixels)) % 10).astype(np.uint8)
        write_idx(raw / f"{part}-labels-idx1-ubyte", labels)
    return raw.parents[1], train
