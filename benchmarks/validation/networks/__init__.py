"""Networks that the zoo prunes, each small: `network` says what one is.

`torchvision`, `timm` and `transformers` build those of a library, `images` and `sequences` are
written here of the parts in `blocks`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from benchmarks.validation.networks import (
    images,
    sequences,
    timm,
    torchvision,
    torchvision_tasks,
    transformers,
)
from benchmarks.validation.networks.network import Network

SOURCES = {
    "written": lambda: images.networks() | sequences.networks(),
    "transformers": transformers.networks,
    "timm": timm.networks,
    "torchvision": lambda: torchvision.networks() | torchvision_tasks.networks(),
}


@functools.cache
def networks() -> Mapping[str, Network]:
    """All of them, as `source/name`."""
    return {
        f"{source}/{name}": network
        for source, found in SOURCES.items()
        for name, network in found().items()
    }
