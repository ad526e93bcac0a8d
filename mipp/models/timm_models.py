"""Any network of timm, by its name there; the package is an extra."""

from __future__ import annotations

import difflib
import importlib.util
from typing import Any

from torch import nn

from mipp.errors import ModelError, option

PREFIX = "timm/"


def build_timm_model(name: str, classes: int, channels: int, size: int) -> nn.Module:
    """Network with random weights and `classes` outputs, for images of `size` where it is told.

    Raises
    ------
    ModelError : timm is not installed, or has no such network.
    """
    timm = _import_timm(name)
    told = {"img_size": size} if timm_size(name) not in (None, size) else {}
    model: nn.Module = timm.create_model(
        name, pretrained=False, num_classes=classes, in_chans=channels, **told
    )
    return model


def timm_size(name: str) -> int | None:
    """Image size that the network was made for; None if any will do.

    Raises
    ------
    ModelError : timm is not installed, or has no such network.
    """
    known = _import_timm(name).get_pretrained_cfg(name)
    return int(known.input_size[-1]) if known is not None and known.fixed_input_size else None


def published_config(name: str, tag: str) -> Any:
    """What timm says of a network's published weights; None where there are none of that tag.

    Raises
    ------
    ModelError : timm is not installed, or has no such network.
    """
    try:
        return _import_timm(name).get_pretrained_cfg(f"{name}.{tag}" if tag else name)
    except RuntimeError:  # of the tag
        return None


def _import_timm(name: str) -> Any:
    """The timm module, once it is sure to have this network."""
    if importlib.util.find_spec("timm") is None:
        raise ModelError(
            f"model {PREFIX + name!r} ({option('model.name')}) cannot be built.\nExpected the "
            "package timm, got none; run `pip install 'timm>=1.0.20'`, or choose a network of "
            "torchvision."
        )
    import mipp.vision  # noqa: F401, I001 - timm imports torchvision, which may need its help
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name.lower(), timm.list_models(), n=3, cutoff=0.5)
        raise ModelError(
            f"model {PREFIX + name!r} ({option('model.name')}) is unknown; did you mean "
            f"{', '.join(PREFIX + one for one in near) or 'a name of timm.list_models()'}?"
        )
    return timm
