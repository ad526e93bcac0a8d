"""What is known of each kind of layer: one adapter a kind, found by the type of a module.

`layer` is the protocol and `answers` what it speaks in, `table` finds and registers, `rows` samples
maps and tokens. Every other file is a kind or two, which registers itself: a file that is added
here is found. Outside of this package nobody asks for the type of a layer.
"""

from importlib import import_module
from pkgutil import iter_modules

from mipp.layers.answers import Cost, Heads, IntArray, LinearMap, Side, Statistics, Window
from mipp.layers.layer import Layer
from mipp.layers.table import layer_at, layer_of, register_layer

for found in iter_modules(__path__):
    import_module(f"{__name__}.{found.name}")

__all__ = [
    "Cost",
    "Heads",
    "IntArray",
    "Layer",
    "LinearMap",
    "Side",
    "Statistics",
    "Window",
    "layer_at",
    "layer_of",
    "register_layer",
]
