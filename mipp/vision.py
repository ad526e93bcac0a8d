"""The one import of torchvision; everything else takes `torchvision` from here.

A torchvision built for CUDA beside a CPU torch cannot load its compiled operators and stops while
it is imported, because it registers a shape rule for the operator `nms` that does not exist.
Declaring the operator is enough for models, transforms and data sets; detection and image decoding
stay out.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import torch

_declared: list[torch.library.Library] = []  # a library that is collected takes its schemas along


def import_torchvision() -> ModuleType:
    """The torchvision module, with `nms` declared if its compiled operators do not load.

    Raises
    ------
    RuntimeError : torchvision does not import for any other reason.
    """
    # Import first: declaring beside operators that do load aborts the process.
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    _declare_operators()
    return importlib.import_module("torchvision")


def _declare_operators() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)


torchvision = import_torchvision()
importlib.import_module("torchvision.transforms.v2")  # which torchvision itself leaves out
