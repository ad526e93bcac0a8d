"""A configured set, split by seed.

A set of yours is a function that is called with what it names of the section `data` (`root`,
`limit`, ...) and `seed`; see `own_set` for what it returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mipp.config import DataConfig
from mipp.data.augment import Augmentation
from mipp.data.deform import deform_set
from mipp.data.image_set import ImageSet
from mipp.data.own_set import image_set_of
from mipp.data.preparation import Preparation
from mipp.data.split import DataSplits, ImageSplit
from mipp.errors import DataError, option
from mipp.names import Table, call_taking, require_takes

_GIVEN = (*DataConfig.model_fields, "seed")
_TORCHVISION = "mipp.data.torchvision_sets:load_torchvision_set"
_OWN = {
    "digits": "mipp.data.digits:load_digits",
    "mnist": _TORCHVISION,
    "fashion-mnist": _TORCHVISION,
    "cifar10": _TORCHVISION,
    "cifar100": _TORCHVISION,
    "image-folder": "mipp.data.image_folder:load_image_folder",
    "parquet": "mipp.data.parquet:load_parquet",
    "webdataset": "mipp.data.webdataset:load_webdataset",
    "huggingface": "mipp.data.huggingface:load_huggingface",
}
_DEFORMED = {  # name -> the set that is deformed
    f"{name}-deformed": name for name in ("digits", "mnist", "fashion-mnist", "cifar10", "cifar100")
}


def _require_loader(thing: Any) -> None:
    require_takes(thing, ("config", *_GIVEN), "a function that returns a data set")


DATA_SETS: Table[Callable[..., Any]] = Table(
    "data set",
    "data.name",
    DataError,
    _require_loader,
    _OWN | {name: _OWN[plain] for name, plain in _DEFORMED.items()},
)


def register_data(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: `data.name` may say this name, in this process.

    Elsewhere, and from every command, `package.module:attribute` names the same set.

    Raises
    ------
    DataError : the name is taken, or the function needs what nobody gives.

    Example
    -------
    >>> @register_data("stripes")
    ... def stripes():
    ...     images = [(torch.eye(8).roll(n, n % 2), n % 2) for n in range(32)]
    ...     return images[:24], images[24:]
    >>> data = load_data(DataConfig(name="stripes", calibration=16, validation=0), seed=0)
    >>> data.classes, data.shape, len(data.train), len(data.test)
    (2, (1, 8, 8), 24, 8)
    """
    return DATA_SETS.register(name)


def load_data(
    config: DataConfig, *, seed: int, channels: int | None = None, size: int | None = None
) -> DataSplits:
    """Splits of the configured set, shaped for a model.

    Parameters
    ----------
    seed : of the permutation that divides the training images, and of the deformations where
        `config.name` ends in -deformed; the division of train and test stays as it is.
    channels, size : what the model wants, None for the set's own; `config.size` wins over `size`.

    Returns
    -------
    Train and validation divide the training images; `config.limit` cuts train. Calibration is a
    random sample of train, in random order, or as many of each class, as far as there are; a larger
    one contains a smaller one of the same seed. Drawing it reads no image.

    Raises
    ------
    DataError : the set is unknown, missing, empty or unreadable; it is too small for the
        calibration; a crop may lose an image; it cannot have these channels; mean or std does not
        fit them.
    """
    images = _load(config, seed)
    validation, train = _divide(len(images.train.labels), config.validation, seed)
    train = train[: config.limit]
    _check_counts(config, len(train), len(images.test.labels))
    preparation = _preparation(config, images, channels, config.size or size)

    augmentation = Augmentation(config.augment, config.crop_padding, len(images.class_names))
    if config.crop_padding is not None and config.crop_padding >= preparation.size:
        raise DataError(
            f"data.crop_padding {config.crop_padding} may shift an image out of sight.\nExpected "
            f"less than the side of {preparation.size} pixels, got {config.crop_padding}; lower "
            "it, or set data.crop_padding to null for an eighth of the side."
        )

    def split(indices: Tensor) -> ImageSplit:
        return ImageSplit(images.train, indices, preparation, augmentation, config.workers)

    return DataSplits(
        name=config.name,
        classes=len(images.class_names),
        class_names=images.class_names,
        shape=(preparation.channels, preparation.size, preparation.size),
        train=split(train),
        calibration=split(_calibration(config, images.train.labels, train)),
        validation=_in_blocks(split(validation)),
        test=ImageSplit(
            images.test,
            torch.arange(len(images.test.labels), device="cpu"),
            preparation,
            workers=config.workers,
        ),
    )


def _load(config: DataConfig, seed: int) -> ImageSet:
    """The configured set, deformed if its name says so."""
    loader = DATA_SETS.resolve(config.name)
    if plain := _DEFORMED.get(config.name):
        return deform_set(loader(config.model_copy(update={"name": plain})), seed)
    values = {field: getattr(config, field) for field in DataConfig.model_fields}
    return image_set_of(config.name, call_taking(loader, config=config, seed=seed, **values))


def _divide(n: int, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Validation and train indices; a share above 0 gives at least one validation image."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed), device="cpu")
    held_out = max(1, round(n * share)) if share else 0
    return order[:held_out], order[held_out:]


def _in_blocks(split: ImageSplit) -> ImageSplit:
    """In the order of the part where blocks of it are read anew for every pass, each once."""
    read_anew = split.streams and split.part.blocks is not None
    return split.at(split.indices.argsort().tolist()) if read_anew else split


def _calibration(config: DataConfig, labels: Tensor, train: Tensor) -> Tensor:
    """The first training images, or as many of each class, the first of it first."""
    if config.calibration_sample == "balanced":
        train = train[torch.argsort(occurrences(labels[train]), stable=True)]
    return train[: config.calibration]


def occurrences(labels: Tensor) -> Tensor:
    """How often each label came before.

    >>> occurrences(torch.tensor([2, 0, 2, 2, 0])).tolist()
    [0, 0, 1, 2, 1]
    """
    by_class = torch.argsort(labels, stable=True)
    counts = torch.unique_consecutive(labels[by_class], return_counts=True)[1]
    starts = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    before = torch.empty_like(by_class)
    before[by_class] = torch.arange(len(labels), device="cpu") - starts
    return before


def _check_counts(config: DataConfig, train: int, test: int) -> None:
    for part, count in (("training", train), ("test", test)):
        if not count:
            raise DataError(
                f"data set {config.name!r} has no {part} images (data.root={config.root}).\n"
                f"Expected at least 1 after a validation share of {config.validation:g}, got 0.\n"
                "Add images, or point data.root elsewhere."
            )
    calibration = option("data.calibration")
    if config.calibration > train:
        raise DataError(
            f"data set {config.name!r} is too small for {calibration}.\n"
            f"Expected at most its {train} training images (without validation), "
            f"got {config.calibration}.\n"
            f"Set {calibration}={train} or less."
        )


def _preparation(
    config: DataConfig, images: ImageSet, channels: int | None, size: int | None
) -> Preparation:
    wanted = channels or images.channels
    if wanted != images.channels and (images.channels, wanted) != (1, 3):
        raise DataError(
            f"data set {config.name!r} does not fit the model.\n"
            f"Expected {wanted} channels, got {images.channels} (only 1 can be repeated to 3).\n"
            f"Choose a model that takes {images.channels} channels, or another data.name."
        )
    mean, std = (
        _per_channel(config, field, own, images.channels, wanted)
        for field, own in (("mean", images.mean), ("std", images.std))
    )
    side = size or images.size
    if config.resize is not None and config.resize < side:
        raise DataError(
            f"data.resize {config.resize} leaves images smaller than what is cropped from them."
            f"\nExpected at least the side of {side} pixels, got {config.resize}; raise it, or "
            "lower data.size."
        )
    return Preparation(wanted, side, mean, std, config.resize, config.interpolation)


def _per_channel(
    config: DataConfig, field: str, own: tuple[float, ...], channels: int, wanted: int
) -> tuple[float, ...]:
    """One value for each wanted channel; a grey set's single value holds for all."""
    values: tuple[float, ...] = getattr(config, field) or own
    if len(values) not in (channels, wanted):
        raise DataError(
            f"data.{field} does not fit data set {config.name!r}.\n"
            f"Expected {channels} values, one for each channel, got {len(values)}: {values}.\n"
            f"Correct data.{field}, or leave it out for the set's own {own}."
        )
    return values if len(values) == wanted else values * wanted
