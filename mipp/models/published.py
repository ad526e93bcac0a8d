"""How the published weights of a network want their images."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from mipp.errors import ConfigError
from mipp.models import timm_models
from mipp.models.table import is_ours, torchvision_name


@dataclass(frozen=True)
class Published:
    """The shorter side that an image is resized to, the square that is cropped, the scale.

    `mean` and `std` are those of pixels from 0 to 1.
    """

    resize: int
    size: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def at(self, size: int) -> Published:
        """The same share of an image in a square of another size."""
        return replace(self, size=size, resize=math.floor(size * self.resize / self.size))


def images_of_weights(name: str, weights: str = "") -> Published:
    """What evaluates the published weights of a network as their publisher did.

    Parameters
    ----------
    name : `torchvision/NAME` or `timm/NAME`.
    weights : which of several, such as `IMAGENET1K_V1` or timm's tag `a1_in1k`; the newest, or
        the network's own, without it.

    Raises
    ------
    ConfigError : the network has no such weights, or they want no square from the centre.
    """
    if name.startswith(timm_models.PREFIX):
        return _of_timm(name, weights)
    if is_ours(name):
        raise _none(name, "torchvision/NAME or timm/NAME", name)
    return _of_torchvision(name, weights)


def _of_torchvision(name: str, weights: str) -> Published:
    plain = torchvision_name(name)
    from mipp.vision import torchvision

    known = torchvision.models.get_model_weights(plain)
    if not len(known):
        raise _none(name, "a network with weights", "none")
    if weights and weights not in known.__members__:
        raise _none(name, f"one of {', '.join(known.__members__)}", repr(weights))
    found = (known[weights] if weights else known.DEFAULT).transforms()
    return Published(
        found.resize_size[0],
        found.crop_size[0],
        found.interpolation.value,
        tuple(found.mean),
        tuple(found.std),
    )


def _of_timm(name: str, weights: str) -> Published:
    known = timm_models.published_config(name.removeprefix(timm_models.PREFIX), weights)
    if known is None:
        raise _none(name, "one of its tags", repr(weights) if weights else "none")
    height, width = known.input_size[1:]
    if known.crop_mode != "center" or height != width:
        shown = f"crop_mode={known.crop_mode} of {height} x {width}"
        raise _none(name, "a square cropped from the centre", shown)
    return Published(
        math.floor(height / known.crop_pct),
        height,
        known.interpolation,
        tuple(known.mean),
        tuple(known.std),
    )


def _none(name: str, expected: str, got: str) -> ConfigError:
    return ConfigError(
        f"data.prepare=weights says nothing of model {name!r}.\nExpected {expected}, got {got}; "
        "set data.prepare=set, and data.resize, data.size, data.interpolation, data.mean and "
        "data.std as its weights want them."
    )
