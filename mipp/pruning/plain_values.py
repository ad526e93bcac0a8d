"""Values of ours as values that JSON knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from mipp.graph.reasons import Reason
from mipp.graph.whole import WholePart
from mipp.latency import TimeReport


def plain(value: object) -> Any:
    """Data classes and mappings as dicts, tuples as lists, reasons with their category.

    >>> plain({"fc": Reason("single", "it has a single channel"), "kept": (1, 2)})
    {'fc': {'category': 'single', 'reason': 'it has a single channel'}, 'kept': [1, 2]}
    """
    if isinstance(value, Reason):
        return {"category": value.category, "reason": str(value)}
    if isinstance(value, TimeReport):
        return value.to_json()
    if isinstance(value, WholePart):
        return {**vars(value), "layers": value.layers, "reasons": dict(value.reasons)}
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(one) for one in value]
    return value
