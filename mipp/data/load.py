"""A configured set, split by seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mipp.config import DataConfig
from mipp.data.batch import Augmentation
from mipp.data.deform import deform_set
from mipp.data.digits import load_digits
from mipp.data.image_folder import load_image_folder
from mipp.data.image_set import ImageSet
from mipp.data.parquet import load_parquet
from mipp.data.split import DataSplits, ImageSplit, Preparation
from mipp.data.torchvision_sets import load_torchvision_set
from mipp.errors import DataError, did_you_mean

DATA_SETS: Mapping[str, Callable[[DataConfig], ImageSet]] = {
    "digits": load_digits,
    "digits-deformed": load_digits,
    "mnist": load_torchvision_set,
    "mnist-deformed": load_torchvision_set,
    "fashion-mnist": load_torchvision_set,
    "fashion-mnist-deformed": load_torchvision_set,
    "cifar10": load_torchvision_set,
    "cifar10-deformed": load_torchvision_set,
    "cifar100": load_torchvision_set,
    "cifar100-deformed": load_torchvision_set,
    "image-folder": load_image_folder,
    "parquet": load_parquet,
}

_DEFORMED = "-deformed"


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
    random sample of train, in random order; a larger one contains a smaller one of the same seed.

    Raises
    ------
    DataError : the set is unknown, missing, empty or unreadable; it is too small for the
        calibration; a crop may lose an image; it cannot have these channels; mean or std does not
        fit them.
    """
    if config.name not in DATA_SETS:
        raise DataError(
            f"data set {config.name!r} (data.name) is unknown; "
            f"{did_you_mean(config.name, DATA_SETS)}."
        )
    images = _load(config, seed)
    validation, train = _divide(len(images.train.labels), config.validation, seed)
    train = train[: config.limit]
    _check_counts(config, len(train), len(images.test.labels))
    preparation = _preparation(config, images, channels, config.size or size)

    augmentation = Augmentation(config.augment, config.crop_padding)
    if config.crop_padding is not None and config.crop_padding >= preparation.size:
        raise DataError(
            f"data.crop_padding {config.crop_padding} may shift an image out of sight.\nExpected "
            f"less than the side of {preparation.size} pixels, got {config.crop_padding}; lower "
            "it, or set data.crop_padding to null for an eighth of the side."
        )

    def split(indices: Tensor) -> ImageSplit:
        return ImageSplit(images.train, indices, preparation, augmentation)

    return DataSplits(
        name=config.name,
        classes=len(images.class_names),
        class_names=images.class_names,
        shape=(preparation.channels, preparation.size, preparation.size),
        train=split(train),
        calibration=split(train[: config.calibration]),
        validation=split(validation),
        test=ImageSplit(images.test, torch.arange(len(images.test.labels)), preparation),
    )


def _load(config: DataConfig, seed: int) -> ImageSet:
    """The configured set, deformed if its name says so."""
    loader, plain = DATA_SETS[config.name], config.name.removesuffix(_DEFORMED)
    if plain == config.name:
        return loader(config)
    return deform_set(loader(config.model_copy(update={"name": plain})), seed)


def _divide(n: int, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Validation and train indices; a share above 0 gives at least one validation image."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    held_out = max(1, round(n * share)) if share else 0
    return order[:held_out], order[held_out:]


def _check_counts(config: DataConfig, train: int, test: int) -> None:
    for part, count in (("training", train), ("test", test)):
        if not count:
            raise DataError(
                f"data set {config.name!r} has no {part} images (data.root={config.root}).\n"
                f"Expected at least 1 after a validation share of {config.validation:g}, got 0.\n"
                "Add images, or point data.root elsewhere."
            )
    if config.calibration > train:
        raise DataError(
            f"data set {config.name!r} is too small for data.calibration.\n"
            f"Expected at most its {train} training images (without validation), "
            f"got {config.calibration}.\n"
            f"Set data.calibration={train} or less."
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
    return Preparation(wanted, size or images.size, mean, std)


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
