"""Parameters that several modules share: what is cut from one of them is cut from all.

b.weight = a.weight      outputs j of both are one unit, and so are inputs j; cut copies share again
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from mipp.graph.reasons import Reason
from mipp.graph.record import Labels, Record
from mipp.layers import Layer, layer_of

Holder = tuple[str, str]  # module, and its name of the parameter


def tied(model: nn.Module) -> list[tuple[nn.Parameter, list[Holder]]]:
    """Every parameter that several modules hold, with who holds it."""
    holders: dict[nn.Parameter, list[Holder]] = {}
    for module, one in model.named_modules():
        for name, parameter in one.named_parameters(recurse=False, remove_duplicate=False):
            holders.setdefault(parameter, []).append((module, name))
    return [(parameter, found) for parameter, found in holders.items() if len(found) > 1]


def sharing(model: nn.Module) -> set[str]:
    """Modules that share a parameter with another one."""
    return {module for _, holders in tied(model) for module, _ in holders}


def couple_tied(model: nn.Module, record: Record) -> set[str]:
    """Couple what shared parameters tie; gives modules where that is not known."""
    modules, unknown = dict(model.named_modules()), set[str]()
    for parameter, holders in tied(model):
        layers = [(module, name, layer_of(modules[module])) for module, name in holders]
        if not all(layer is not None and _axes(layer, name) for _, name, layer in layers):
            unknown |= {module for module, _ in holders}
            continue
        for axis in range(parameter.ndim):
            sides = [
                labels
                for module, name, layer in layers
                if layer is not None
                for labels in _along(record, module, layer, name, axis)
            ]
            _couple(record, sides, len(holders), holders[0][0])
    return unknown


def retie(model: nn.Module, shared: list[tuple[nn.Parameter, list[Holder]]]) -> None:
    """Let modules share again what one of them has anew, in place.

    Parameters
    ----------
    shared : what `tied` gave of the model before.
    """
    for parameter, holders in shared:
        places = [(model.get_submodule(module), name) for module, name in holders]
        values = [getattr(module, name) for module, name in places]
        anew = next((value for value in values if value is not parameter), None)
        for module, name in places if isinstance(anew, nn.Parameter) else ():
            setattr(module, name, anew)


def _axes(layer: Layer, name: str) -> dict[str, int]:
    """Role of the labels along each axis of a parameter that a layer's cuts are along."""
    reads = layer.inputs.tensors if layer.role == "makes" else {}
    role = "producers" if layer.role == "makes" else "passengers"
    sides = (("consumers", reads), (role, layer.outputs.tensors))
    return {role: tensors[name] for role, tensors in sides if name in tensors}


def _along(record: Record, module: str, layer: Layer, name: str, axis: int) -> Iterator[Labels]:
    for role, own in _axes(layer, name).items():
        for touch in getattr(record, role) if own == axis else ():
            if touch.module == module:
                yield torch.from_numpy(touch.labels)


def _couple(record: Record, sides: list[Labels], holders: int, module: str) -> None:
    reason = Reason("shared", f"{module} shares its weights with another module")
    alike = len(sides) == holders and len({len(labels) for labels in sides}) == 1
    cut = torch.stack(sides).ge(0).all(0) if alike else None
    for labels in sides:
        if cut is not None:
            record.couple(sides[0], labels)
        record.fix(labels if cut is None else labels[~cut], reason)
