"""Numbers of channels that modules keep and no forward asks for, but other methods do, and people.

    networks of timm    num_features, by which `reset_classifier` makes a layer
    blocks of timm      in_chs, out_chs and groups, by which `reparameterize_model` folds branches
    torchvision         out_channels, by which detectors are built on a trunk

Whether numbers that forward asks for follow a cut is not said here: `mipp.graph` finds out.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from types import CodeType, FunctionType
from typing import Any

from torch import nn

from mipp.layers.layer import Layer
from mipp.layers.table import layer_of

READ = ("in_chs", "in_channels", "in_features", "in_dim", "dim")
MADE = ("out_chs", "out_channels", "out_features", "out_dim")
CLASSIFIED = ("num_features", "head_hidden_size", "embed_dim", "in_features", "hidden_size")


def recount(dense: nn.Module, cut: nn.Module) -> None:
    """Bring such numbers of a network that was cut up to date, in place.

    >>> class Block(nn.Sequential):
    ...     out_channels = 0
    >>> dense, cut = Block(nn.Conv2d(3, 8, 1)), Block(nn.Conv2d(3, 5, 1))
    >>> dense.out_channels = cut.out_channels = 8
    >>> recount(dense, cut)
    >>> cut.out_channels
    5
    """
    codes = set(chain.from_iterable(map(_codes, dense.modules())))
    asked = set[str]().union(*(_named(kind, code) for kind, code in codes))
    for name, attribute, before, after in (*_of_blocks(dense, cut), *_of_classifiers(dense, cut)):
        holder = cut.get_submodule(name)
        own = vars(holder).get(attribute)
        if type(own) is int and own == before and attribute not in asked:
            setattr(holder, attribute, after)


def _of_blocks(dense: nn.Module, cut: nn.Module) -> Iterator[tuple[str, str, int, int]]:
    """What blocks say: names, attributes, and how many channels there were and are.

    A block reads what the first layer of such a width reads, and makes what the last one makes.
    """
    others = dict(cut.named_modules())  # without what computed weights that became plain
    for name, module in dense.named_modules():
        kept = [key for key in (*READ, *MADE, "groups") if type(vars(module).get(key)) is int]
        if not kept or name not in others or layer_of(module) is not None:
            continue
        after = _layers(others[name])
        pairs = [(own, after[part]) for part, own in _layers(module).items() if part in after]
        for key in kept:
            widths = [(_count(key, own), _count(key, other)) for own, other in pairs]
            fitting = [both for both in widths if both[0] == vars(module)[key]]
            if fitting:
                yield name, key, *fitting[-1 if key in MADE else 0]


def _count(key: str, layer: Layer) -> int:
    """What a layer says of itself where a block has an attribute of this name."""
    if key in MADE:
        return layer.outputs.features
    own = vars(layer.module).get(key) if key == "groups" else None
    return own if type(own) is int else layer.inputs.features  # each channel of a norm is a group


def _of_classifiers(dense: nn.Module, cut: nn.Module) -> Iterator[tuple[str, str, int, int]]:
    """The same of what `get_classifier` gives, as networks of timm have it, for all it is in."""
    before, after = _layers(dense), _layers(cut)
    names = {id(layer.module): name for name, layer in before.items()}
    for holder in dense.modules():
        own: Any = getattr(holder, "get_classifier", None)
        found = None
        with suppress(Exception):  # a method of this name may be another
            found = own() if hasattr(holder, "reset_classifier") else None
        for part in found if isinstance(found, (tuple, list)) else [found]:
            inside = part.modules() if isinstance(part, nn.Module) else ()
            path = next((names[id(one)] for one in inside if id(one) in names), None)
            if path is not None and path in after:
                widths = before[path].inputs.features, after[path].inputs.features
                parts = path.split(".")
                for end in range(len(parts)):
                    for key in CLASSIFIED:
                        yield ".".join(parts[:end]), key, *widths


def _layers(module: nn.Module) -> dict[str, Layer]:
    """Those in a module, and itself, that have features of their own, by name."""
    found = {name: layer_of(part) for name, part in module.named_modules()}
    return {n: layer for n, layer in found.items() if layer is not None and layer.role != "parts"}


def _codes(module: nn.Module) -> Iterator[tuple[Any, Any]]:
    """A module's class with each function that runs when it is called: forward and hooks."""
    kind: Any = type(module)
    forward = vars(module).get("forward", kind.forward)
    hooks = module._forward_pre_hooks.values(), module._forward_hooks.values()
    return ((kind, _function(one)) for one in chain([forward], *hooks))


def _function(part: Any) -> Any:
    """What is behind a bound method, a partial or an object that can be called."""
    while isinstance(part, functools.partial):
        part = part.func
    part = getattr(part, "__func__", part)
    return part if isinstance(part, FunctionType) else type(part).__call__


def _named(kind: Any, function: Any) -> set[str]:
    """All names in the code of a function of a class's modules, and in that of what it calls."""
    names: set[str] = set()
    seen: set[CodeType] = set()
    rest: list[tuple[Any, dict[str, Any]]] = [(function, {})]  # with what is global there
    while rest:
        part, around = rest.pop()
        part = part.fget if isinstance(part, property) else part
        if isinstance(part, FunctionType):
            whole: Any = inspect.unwrap(part)
            part, around = getattr(whole, "__code__", None), getattr(whole, "__globals__", {})
        of_torch = around.get("__name__", "").startswith("torch.")
        if not isinstance(part, CodeType) or part in seen or of_torch:
            continue
        seen.add(part)
        named = {*part.co_names, *(value for value in part.co_consts if isinstance(value, str))}
        names |= named
        called = [inspect.getattr_static(kind, name, around.get(name)) for name in named]
        rest += [(value, around) for value in (*part.co_consts, *called)]
    return names
