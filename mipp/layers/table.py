"""Which adapter a module has: by its type, the most specific first, the latest first of a type."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

from torch import nn

from mipp.errors import LayerError
from mipp.layers.layer import Layer

Adapter = TypeVar("Adapter", bound=type[Layer])

_adapters: dict[type | str, list[type[Layer]]] = {}


def register_layer(adapter: Adapter) -> Adapter:
    """Let modules of the adapter's types be known by it; a decorator of its class.

    It comes before those registered earlier for the same type, mipp's own among them.

    Raises
    ------
    LayerError : it is no subclass of `mipp.layers.Layer`, or does not say its types.

    Example
    -------
    >>> import torch
    >>> from mipp.layers import Layer, Side
    >>> class Scale(nn.Module):
    ...     def __init__(self, channels):
    ...         super().__init__()
    ...         self.factors = nn.Parameter(torch.ones(channels))
    >>> @register_layer
    ... class ScaleLayer(Layer):
    ...     types, kind, role = (Scale,), "scale", "carries"
    ...     @property
    ...     def outputs(self):
    ...         return Side(len(self.module.factors), tensors={"factors": 0})
    >>> layer_of(Scale(5)).outputs.features
    5
    """
    if not (isinstance(adapter, type) and issubclass(adapter, Layer)):
        raise LayerError(
            f"layer {adapter!r} cannot be registered.\nExpected a class that derives from "
            f"mipp.layers.Layer, got {type(adapter).__name__}; see its docstring for an example."
        )
    if not adapter.types:
        raise LayerError(
            f"layer {adapter.__name__} cannot be registered.\nExpected types, the classes of "
            "modules that it adapts, got none; set types = (YourModule,) in its class."
        )
    for kind in adapter.types:
        _adapters.setdefault(kind, []).insert(0, adapter)
    _adapters_of.cache_clear()
    return adapter


def layer_of(module: nn.Module) -> Layer | None:
    """The module's adapter, None for a module of no known kind.

    >>> layer_of(nn.Conv2d(3, 8, 3, groups=1)).kind
    'conv'
    >>> layer_of(nn.ReLU()) is None
    True
    """
    kind: Any = type(module)
    for adapter in _adapters_of(kind):
        if adapter.fits(module):
            return adapter(module)
    return None


@cache
def _adapters_of(kind: Any) -> tuple[type[Layer], ...]:
    """Adapters of a class and of those it derives from, in the order in which they are asked."""
    keys = [(base, f"{base.__module__}.{base.__qualname__}") for base in kind.__mro__]
    return tuple(adapter for pair in keys for key in pair for adapter in _adapters.get(key, ()))


def layer_at(model: nn.Module, name: str) -> Layer:
    """The adapter of the submodule of that name, which must have one."""
    layer = layer_of(model.get_submodule(name))
    assert layer is not None, name
    return layer
