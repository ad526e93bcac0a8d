"""A set of encoded images, whose channels and size are told by the headers of a few."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mipp.data.decode import Encoded, own_channels_and_size
from mipp.data.image_set import ImageSet, Part, default_normalisation

OWN_SIZE = 224  # for images of many sizes


def encoded_set(
    class_names: tuple[str, ...],
    sample: Iterable[Encoded],
    parts: Callable[[int], tuple[Part, Part]],
) -> ImageSet:
    """Set with the channels and the size of its images, and the normalisation usual for these.

    Parameters
    ----------
    sample : a few training images; only their headers are read.
    parts : from the number of channels: the training and the test images.
    """
    channels, size = own_channels_and_size(sample, otherwise=OWN_SIZE)
    mean, std = default_normalisation(channels)
    train, test = parts(channels)
    return ImageSet(class_names, channels, size, mean, std, train, test)
