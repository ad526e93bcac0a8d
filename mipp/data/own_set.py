"""A set of yours: two map-style data sets, training and test, as one that can be split.

Each has a length, and at an index gives an image and its label. Images are Pillow's, or arrays
and tensors of (h, w), (h, w, c) or (c, h, w), uint8 or between 0 and 1; squares of one size. All
are read once and kept as uint8; a set that is too large for that is an `image-folder` or
`parquet`, or an `ImageSet` whose parts stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mipp.data.image_set import ImageSet, Part, part_in_memory
from mipp.errors import DataError


def image_set_of(name: str, brought: Any) -> ImageSet:
    """The set that a function of yours returned: an `ImageSet`, or training and test data sets.

    Parameters
    ----------
    name : `data.name`, for the errors and the fingerprints.

    Returns
    -------
    Classes are the training set's `classes`, or as many numbers as its labels count; mean and
    deviation are those of the training images.

    Raises
    ------
    DataError : it is neither; a part is empty, has no labels, or images that differ in shape.
    """
    if isinstance(brought, ImageSet):
        return brought
    parts = tuple(brought) if isinstance(brought, (tuple, list)) else ()
    if len(parts) != 2 or not all(_is_map_style(part) for part in parts):
        raise DataError(
            f"data set {name!r} (data.name) gives no images.\nExpected its function to return "
            "(train, test), each with a length and an (image, label) at each index, or a "
            f"mipp.data.ImageSet, got {_kinds(brought)}."
        )
    train, train_labels = _read(f"{name}/train", parts[0])
    test, test_labels = _read(f"{name}/test", parts[1])
    if train.shape[1:] != test.shape[1:]:
        raise _differs(f"{name}/test", tuple(train.shape[1:]), test.shape[1:], "as in training")
    classes = _class_names(name, parts[0], train_labels, test_labels)
    mean, std = _moments(train)
    return ImageSet(
        class_names=classes,
        channels=train.shape[1],
        size=train.shape[2],
        mean=mean,
        std=std,
        train=_part(f"{name}/train", train, train_labels),
        test=_part(f"{name}/test", test, test_labels),
    )


def _is_map_style(part: Any) -> bool:
    return hasattr(part, "__getitem__") and hasattr(part, "__len__")


def _kinds(brought: Any) -> str:
    if isinstance(brought, (tuple, list)):
        return f"({', '.join(type(part).__name__ for part in brought)})"
    return f"a {type(brought).__name__}"


def _read(name: str, dataset: Any) -> tuple[Tensor, Tensor]:
    """Images uint8 (n, c, h, h) and labels int64 (n,) of a part."""
    count = len(dataset)
    if not count:
        raise DataError(
            f"data set {name!r} has no images.\nExpected at least 1, got a length of 0; look at "
            "what its function returns."
        )
    labels = torch.empty(count, dtype=torch.int64, device="cpu")
    image, labels[0] = _item(name, dataset, 0)
    if image.shape[1] != image.shape[2]:
        raise _differs(f"{name}[0]", "(channels, side, side)", image.shape, "a square")
    images = np.empty((count, *image.shape), dtype=np.uint8)
    images[0] = image
    for row in range(1, count):
        image, labels[row] = _item(name, dataset, row)
        if image.shape != images.shape[1:]:
            raise _differs(f"{name}[{row}]", images.shape[1:], image.shape, "as the first")
        images[row] = image
    again, _ = _item(name, dataset, 0)
    if not np.array_equal(again, images[0]):
        raise DataError(
            f"data set {name!r} gives another image each time it is read.\nExpected the same "
            "pixels at an index, got others the second time; leave random transforms to "
            "data.augment."
        )
    return torch.from_numpy(images), labels


def _item(name: str, dataset: Any, row: int) -> tuple[NDArray[np.uint8], int]:
    """Pixels (c, h, w) and the label at an index."""
    what = f"data set {name}[{row}]"
    item = dataset[row]
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise DataError(
            f"{what} has no label.\nExpected a pair of an image and its label, got "
            f"{_kinds(item)}; return both at each index."
        )
    label = np.asarray(item[1])
    if label.size != 1 or label.dtype.kind not in "iu" or label.item() < 0:
        raise DataError(
            f"{what} has a label that is no class.\nExpected one whole number from 0 on, got "
            f"{item[1]!r}; number the classes."
        )
    return _pixels(what, item[0]), int(label.item())


def _pixels(what: str, image: Any) -> NDArray[np.uint8]:
    """Bytes (c, h, w) of an image of any kind."""
    array: NDArray[Any] = np.asarray(image.detach().cpu() if isinstance(image, Tensor) else image)
    if array.ndim == 2:
        array = array[None]
    elif array.ndim == 3 and not isinstance(image, Tensor) and array.shape[2] in (1, 3):
        array = array.transpose(2, 0, 1)
    if array.ndim != 3 or not array.size:
        raise DataError(
            f"{what} is no image.\nExpected a Pillow image, or an array or tensor of two or three "
            f"axes, got a {type(image).__name__} of shape {array.shape}."
        )
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return np.where(array, np.uint8(255), np.uint8(0))
    if array.dtype.kind != "f" or not (array.min() >= 0 and array.max() <= 1):
        raise DataError(
            f"{what} has pixels that are no brightness.\nExpected uint8, or floats from 0 to 1, "
            f"got {array.dtype} from {array.min()} to {array.max()}; leave the normalisation "
            "to data.mean and data.std."
        )
    scaled: NDArray[np.uint8] = np.rint(array * 255).astype(np.uint8)
    return scaled


def _differs(where: str, expected: object, got: Iterable[int], why: str) -> DataError:
    return DataError(
        f"data set {where} has images of another shape.\nExpected {expected}, {why}, got "
        f"{tuple(got)}; resize or crop them in the data set."
    )


def _class_names(name: str, train: Any, labels: Tensor, test: Tensor) -> tuple[str, ...]:
    named = getattr(train, "classes", None)
    count = int(labels.max()) + 1
    below = min(count, len(labels)) if named is None else len(tuple(named))
    most = max(count - 1, int(test.max()))
    if most >= below:
        said = "classes" if named is not None else "images or classes in training"
        raise DataError(
            f"data set {name!r} has the label {most}.\nExpected labels below the count of its "
            f"{said}, {below}, got {most}; number the classes from 0 on, in both parts alike."
        )
    return tuple(map(str, range(count) if named is None else named))


def _moments(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel, of pixels from 0 to 1."""
    # counted, not summed: exact, and a float copy of all images is never made
    levels = torch.arange(256, dtype=torch.float64, device="cpu") / 255
    means, deviations = [], []
    for channel in images.unbind(1):
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = float(share @ levels)
        means.append(mean)
        deviations.append(float(share @ (levels - mean) ** 2) ** 0.5 or 1.0)
    return tuple(means), tuple(deviations)


def _part(name: str, images: Tensor, labels: Tensor) -> Part:
    part = part_in_memory(name, images, labels)
    content = hashlib.sha256(images.numpy().tobytes()).hexdigest()
    return Part(name, labels, part.read, identity=content)
