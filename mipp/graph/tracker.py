"""What is known, while a network runs, about the labels of its tensors and who owns its weights."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mipp.graph.label_axes import constant
from mipp.graph.reasons import Reason
from mipp.graph.record import NONE, Labels, Record
from mipp.inputs import tensors_in
from mipp.layers import Layer, layer_of


@dataclass(frozen=True)
class Place:
    """A module of the network, its name, and its adapter if it has one."""

    name: str
    module: nn.Module
    layer: Layer | None
    source: str = ""  # the layer whose outputs it makes: itself, or the one that it normalises

    @property
    def known(self) -> Layer | None:
        """The adapter of a layer whose own parameters the rules know; those of others are bare."""
        return self.layer if self.layer is not None and self.layer.role != "parts" else None

    @property
    def whole(self) -> bool:
        """Whether a call is followed as a whole, since no operator is known to do its work."""
        return self.known is not None and not self.known.operators

    def __str__(self) -> str:
        return f"{self.name} ({type(self.module).__name__})"


def _source(name: str, layer: Layer | None, norm_after: Mapping[str, str]) -> str:
    if layer is None or layer.activates:
        return ""
    normalised = {norm: maker for maker, norm in norm_after.items()}
    makes = layer.filters is not None and not layer.inner and name not in norm_after
    return name if makes else normalised.get(name, "")


class Tracker:
    """Labels by tensor, weights by module, and the stack of modules that are running."""

    def __init__(
        self, model: nn.Module, norm_after: Mapping[str, str], across: Container[str] = ()
    ) -> None:
        self.record, self.across = Record(), across
        self.places = {
            name: Place(name, module, layer, _source(name, layer, norm_after))
            for name, module in model.named_modules()
            for layer in [layer_of(module)]
        }
        self.scope: list[Place] = []
        self.arguments: list[tuple[Any, ...]] = []  # per module in scope
        self.reductions: dict[str, int] = {}  # that each module has run itself
        self.statistics: dict[int, tuple[Tensor, Labels]] = {}  # one of channels
        self.wholes = 0  # running modules that are followed as a whole: nothing inside them is
        self.ruling = False  # a rule is at work on labels, with operators of its own
        self._labels: dict[int, tuple[Tensor, Labels]] = {}  # the tensor is kept alive
        self._owners: dict[int, tuple[list[Place], Tensor]] = {}
        self._bare: dict[int, tuple[str, Tensor]] = {}
        for name, place in self.places.items():
            module = place.module
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                self._owners.setdefault(id(tensor), ([], tensor))[0].append(place)
            if place.known or self._computes(name):
                continue
            constants = [
                (key, buffer)
                for key, buffer in module.named_buffers(recurse=False)
                if buffer.is_floating_point() and buffer.numel() > 1
            ]
            for key, tensor in (*module.named_parameters(recurse=False), *constants):
                self._bare[id(tensor)] = (f"{name}.{key}" if name else key, tensor)

    def _computes(self, name: str) -> bool:
        """Whether a module is a parametrization, which computes a weight of a known layer."""
        holder, inside, _ = f".{name}".partition(".parametrizations.")
        return bool(inside) and self.places[holder.removeprefix(".")].known is not None

    def labels_of(self, tensor: Any) -> Labels | None:
        """The tensor's labels, None if it carries none; a bare parameter or buffer gets its own."""
        if not isinstance(tensor, Tensor):
            return None
        found = self._labels.get(id(tensor))
        if found is not None:
            return found[1]
        if id(tensor) in self._bare:
            name, _ = self._bare[id(tensor)]
            labels = self.record.fresh(tensor.shape)
            self.record.parameters[name] = labels
            self.put(tensor, labels)
            return labels
        return None

    def known_labels(self, tensor: Any) -> Labels | None:
        """The labels that the tensor carries by now; a bare parameter may have none yet."""
        found = self._labels.get(id(tensor))
        return None if found is None else found[1]

    def put(self, tensor: Any, labels: Labels | None) -> None:
        """From here on the tensor carries these labels."""
        if isinstance(tensor, Tensor):
            if labels is None:
                self._labels.pop(id(tensor), None)
            else:
                assert labels.shape == tensor.shape, (labels.shape, tensor.shape)
                self._labels[id(tensor)] = (tensor, labels)

    def labelled(self, tensor: Tensor) -> Labels:
        """The tensor's labels, `NONE` everywhere if it carries none."""
        labels = self.labels_of(tensor)
        return torch.full(tensor.shape, NONE, device="cpu") if labels is None else labels

    def read(self, x: Tensor, axis: int) -> Labels | None:
        """Label of each feature along an axis, (features,); see `lined_up`."""
        labels = self.labels_of(x)
        return None if labels is None else self.lined_up(labels, axis)

    def lined_up(self, labels: Labels, axis: int) -> Labels | None:
        """One label for each place along an axis, (features,).

        Where another axis tells a feature's elements apart, such as a class token among the
        positions of an image, they are coupled: whoever reads a feature reads it at every
        position, also where padding has no label. None where positions hold features in
        different orders.
        """
        if not labels.numel():  # of no images, as an expert may get
            return None
        axis = axis % labels.ndim
        others = [a for a in range(labels.ndim) if a != axis]
        for a in others:
            if constant(labels, a):
                labels = labels.narrow(a, 0, 1)
        table = labels.movedim(axis, 0).reshape(labels.shape[axis], -1)  # (features, positions)
        first = table.max(1, keepdim=True).values  # `NONE` is less than any label
        if table.shape[1] > 1:
            if _ambiguous(table) and _ambiguous(torch.unique(table, dim=0)):
                return None
            self.record.couple(first.expand(table.shape), table)
        return first.reshape(-1)

    @contextmanager
    def at_rules(self) -> Iterator[None]:
        """Operators that run within the block are not the network's."""
        self.ruling, before = True, self.ruling
        try:
            yield
        finally:
            self.ruling = before

    def count(self) -> None:
        """The module in scope runs a reduction."""
        name = self.scope[-1].name if self.scope else ""
        self.reductions[name] = self.reductions.get(name, 0) + 1

    def holder(self, weight: Any) -> Place | None:
        """The module that holds a weight, if one does; of several the one that is running."""
        places, _ = self._owners.get(id(weight), ((), None))
        running = self.scope[-1] if self.scope else None
        return running if running in places else next(iter(places), None)

    def worker(self, operator: str, weights: list[Tensor]) -> Place | None:
        """The layer whose work an operator does: it holds a weight, or it is running."""
        running = [self.scope[-1]] if self.scope else []
        for place in (*map(self.holder, weights), *running):
            if place is not None and place.known and operator in place.known.operators:
                return place
        return None

    def hand_on_owner(self, name: str, args: tuple[Any, ...], output: Any) -> None:
        """A view or a copy of a weight is still that weight."""
        passed = name in ("t", "_to_copy", "detach", "alias", "transpose", "clone")
        if passed and args and isinstance(output, Tensor):
            owner = self._owners.get(id(args[0]))
            if owner is not None:
                self._owners[id(output)] = (owner[0], output)

    def fix(self, operands: list[Tensor], output: Any, reason: Reason) -> None:
        """Channels of the operands cannot go, and the output carries none."""
        for tensor in operands:
            self.record.fix(self.labels_of(tensor), reason)
        for tensor in tensors_in(output):
            self.put(tensor, None)

    def unknown(self, what: str) -> Reason:
        """Why channels stay whole that an operation reads for which there is no rule."""
        text = "is an operation that mipp cannot follow, which may mix its channels"
        return Reason("unknown", f"{self.where(what)} {text}")

    def where(self, what: str = "") -> str:
        """The place in the network that is running, in words."""
        if not self.scope or not self.scope[-1].name:
            return f"{what or 'an operation'} in forward"
        place = self.scope[-1]
        leaf = not any(True for _ in place.module.children())
        return str(place) if leaf or not what else f"{what} in {place}"


def _ambiguous(table: Labels) -> bool:
    """Whether one label lies in several rows of a table, wherever that is."""
    first = table.max(1, keepdim=True).values
    differ = (table >= 0) & (table != first)  # few: most positions have the first label
    pairs = torch.unique(table[differ] * len(table) + differ.nonzero()[:, 0])
    held = torch.cat([first[first >= 0], pairs // len(table)])
    return len(torch.unique(held)) != len(held)
