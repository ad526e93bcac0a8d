"""Sets of Hugging Face's `datasets`, an extra, that were saved to a folder; streamed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mipp.config import DataConfig
from mipp.data.content import files_under
from mipp.data.decode import Encoded, decode_images
from mipp.data.encoded_set import encoded_set
from mipp.data.image_set import ImageSet, Part
from mipp.data.locate import find_folder
from mipp.errors import DataError, reason_of

_INDEX = "dataset_dict.json"
_LAYOUT = f"{_INDEX}, as DatasetDict.save_to_disk writes it"
_TESTS = ("test", "validation", "valid", "val")  # the first that there is


def load_huggingface(config: DataConfig) -> ImageSet:
    """Set of a saved `DatasetDict` with `train` and `test` or else `validation`.

    Raises
    ------
    DataError : the package `datasets` is not installed; no such folder; a part, its images or its
        labels are missing; a label names no class.
    """
    folder = find_folder(config, _holds_set, _LAYOUT)
    parts = _parts(folder)
    features = parts["train"].features
    image, label = _columns(folder, features)
    names = tuple(map(str, features[label].names))
    labels = {
        part: _labels(folder / part, table, label, len(names)) for part, table in parts.items()
    }
    encoded = {part: _encoded(table, image) for part, table in parts.items()}
    rows = torch.arange(0, len(parts["train"]), max(1, len(parts["train"]) // 16), device="cpu")
    sample = _rows(folder / "train", encoded["train"], image, rows)

    def made(channels: int) -> tuple[Part, Part]:
        train, test = (
            Part(
                f"huggingface/{part}",
                labels[part],
                partial(_read, folder / part, encoded[part], image, channels),
                streams=True,
                crops=True,
                identity=",".join(
                    str(Path(file["filename"]).stat().st_size) for file in table.cache_files
                ),
            )
            for part, table in parts.items()
        )
        return train, test

    return encoded_set(names, sample, made)


def files_of(config: DataConfig) -> list[Path]:
    """All files of the set."""
    return files_under(find_folder(config, _holds_set, _LAYOUT))


def _holds_set(folder: Path) -> bool:
    return (folder / _INDEX).is_file()


def _parts(folder: Path) -> dict[str, Any]:
    """Training and test, in this order."""
    datasets = _import_datasets()
    try:
        saved = datasets.load_from_disk(str(folder))
    except Exception as error:  # it raises many kinds for damaged files
        raise DataError(
            f"image set {folder} cannot be read.\nExpected what DatasetDict.save_to_disk writes, "
            f"got: {reason_of(error)}; save it again."
        ) from error
    test = next((part for part in _TESTS if part in saved), None)
    if "train" not in saved or test is None:
        raise DataError(
            f"image set {folder} lacks a part.\nExpected train and one of {', '.join(_TESTS)}, got "
            f"{', '.join(saved)}; save it with both (Dataset.train_test_split)."
        )
    return {"train": saved["train"], test: saved[test]}


def _import_datasets() -> Any:
    if importlib.util.find_spec("datasets") is None:
        raise DataError(
            "data set 'huggingface' (data.name) cannot be read.\nExpected the package datasets, "
            "got none; run `pip install 'mipp-pruning[datasets]'`."
        )
    return importlib.import_module("datasets")


def _columns(folder: Path, features: Mapping[str, Any]) -> tuple[str, str]:
    """The one column of images, and `label` or the one column of classes."""
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    images = [name for name, kind in kinds.items() if kind == "Image"]
    classes = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    classes = ["label"] if "label" in classes else classes
    if (len(images), len(classes)) != (1, 1):
        listed = ", ".join(f"{name}: {kind}" for name, kind in kinds.items())
        raise DataError(
            f"image set {folder} lacks the columns of an image set.\nExpected one of Image and one "
            f"of ClassLabel, or that called label, got {listed}; cast or remove columns."
        )
    return images[0], classes[0]


def _labels(part: Path, table: Any, column: str, classes: int) -> Tensor:
    listed = np.array(table.with_format(None)[column][:], dtype=object)
    wrong = [one for one in listed if not isinstance(one, int) or not 0 <= one < classes]
    if wrong:
        raise DataError(
            f"image set {part} has {len(wrong)} labels that name no class.\nExpected 0 to "
            f"{classes - 1}, got {wrong[0]}; drop those rows, or correct the names of {column}."
        )
    return torch.tensor(listed.astype(np.int64), device="cpu")


def _encoded(table: Any, column: str) -> Any:
    """The images alone, not decoded."""
    images = _import_datasets().Image(decode=False)
    return table.with_format(None).select_columns([column]).cast_column(column, images)


def _read(
    part: Path, table: Any, column: str, channels: int, indices: Tensor, size: int, progress: str
) -> Tensor:
    chunk = _rows(part, table, column, indices)
    return decode_images([chunk], len(chunk), channels=channels, size=size, progress=progress)


def _rows(part: Path, table: Any, column: str, indices: Tensor) -> list[Encoded]:
    """Only bytes: a path in a table would be one that its author chose."""
    rows = indices.tolist()
    images = table[rows][column]
    return [
        Encoded(at, f"{part} row {row}", image["bytes"] if image else None)
        for at, (row, image) in enumerate(zip(rows, images, strict=True))
    ]
