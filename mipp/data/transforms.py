"""torchvision's random transforms, with random numbers that are an image's own.

They draw from torch's global generator. It is set to a number of the image before each, and put
back at the end, so that neither the images read before nor the network's dropout matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

MIXUP_ALPHA, CUTMIX_ALPHA = 0.2, 1.0  # of Beta, torchvision's own for ImageNet
SIDE_CUT_OUT = 0.5  # of the image's; that of Cutout's paper (arXiv:1708.04552v2) on CIFAR-10


def v2() -> Any:
    """The module `torchvision.transforms.v2`."""
    from mipp.vision import torchvision  # a second of import

    return torchvision.transforms.v2


def _cutout(fill: Sequence[int]) -> Any:
    # Departs: a square that may stick out of the image in the paper lies inside.
    area = (SIDE_CUT_OUT**2,) * 2
    return v2().RandomErasing(p=1.0, scale=area, ratio=(1.0, 1.0), value=list(fill))


BY_IMAGE: Mapping[str, Callable[[Sequence[int]], Any]] = {
    "randaugment": lambda fill: v2().RandAugment(),
    "trivialaugment": lambda fill: v2().TrivialAugmentWide(),
    "cutout": _cutout,
}
OF_BATCHES: Mapping[str, Callable[[int], Any]] = {
    "mixup": lambda classes: v2().MixUp(alpha=MIXUP_ALPHA, num_classes=classes),
    "cutmix": lambda classes: v2().CutMix(alpha=CUTMIX_ALPHA, num_classes=classes),
}


@contextmanager
def seeding() -> Iterator[Callable[[int], object]]:
    """Sets the global generator of this process, and puts it back in the end."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        yield torch.default_generator.manual_seed


def random_part(image: Any, seed: int) -> dict[str, int]:
    """Top, left, height and width of what torchvision's `RandomResizedCrop` draws.

    Parameters
    ----------
    image : of Pillow, which need not be decoded yet, or a tensor (c, h, w).

    >>> random_part(torch.zeros(3, 20, 30), seed=1)
    {'top': 1, 'left': 1, 'height': 15, 'width': 18}
    """
    with seeding() as set_seed:
        set_seed(seed)
        drawn: dict[str, int] = v2().RandomResizedCrop(1).make_params([image])
    return drawn


def transformed(
    pixels: Tensor, seeds: Sequence[int], names: Sequence[str], mean: Sequence[float]
) -> Tensor:
    """Images uint8 (n, c, h, w), each transformed by what these names draw from its seed.

    Parameters
    ----------
    mean : of each channel, 0 to 1; the colour of what is cut out.
    """
    fill = [round(255 * value) for value in mean]
    if pixels.shape[1] != len(fill):  # a grey image that the network sees as colour
        fill = [round(255 * sum(mean) / len(mean))] * pixels.shape[1]
    images = []
    with seeding() as seed:
        transform = v2().Compose([BY_IMAGE[name](fill) for name in names])
        for image, number in zip(pixels, seeds, strict=True):
            seed(number + 1)  # a crop has drawn from the number itself
            images.append(transform(image))
    return torch.stack(images) if images else pixels


def mixed(
    images: Tensor, labels: Tensor, number: int, names: Sequence[str], classes: int
) -> tuple[Tensor, Tensor]:
    """A batch whose images are mixed with their neighbours, and shares of classes (n, classes).

    Parameters
    ----------
    images : float32 (n, c, h, w), normalised.
    labels : int64 (n,).
    names : `mixup`, `cutmix`, or both, of which chance takes one.
    """
    with seeding() as seed:
        transform = v2().RandomChoice([OF_BATCHES[name](classes) for name in names])
        seed(number + 2)
        soft: tuple[Tensor, Tensor] = transform(images, labels)
    return soft
