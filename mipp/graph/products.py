"""What operators beside the layers multiply, and which channels it goes with.

q (heads, tokens, size) @ k^T      a head of both: its share of the heads
q^T @ k, channels with channels    a channel of each: the square of its share
x @ a bare parameter               nothing that can go: always the whole
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from mipp.graph.channels import REST, ChannelGroup, LayerCost, Product
from mipp.graph.label_axes import narrow
from mipp.graph.operations import CONVOLVES, PRODUCTS
from mipp.graph.record import Labels, Multiplied, Record
from mipp.graph.tracker import Place, Tracker
from mipp.inputs import tensors_in
from mipp.layers import IntArray
from mipp.multiplying import ATTENTION, attention_macs, macs_of


def count_operator(
    tracker: Tracker, func: Any, args: tuple[Any, ...], kwargs: Any, output: Any
) -> None:
    """Note what an operator multiplied: for the layer whose work it does, or as a product."""
    macs = macs_of(func, args, kwargs, output)
    if not macs:
        return
    record, operands = tracker.record, tensors_in((args, kwargs))
    name = func.overloadpacket.__name__
    place = tracker.worker(name, operands) or next(filter(_whole, tracker.scope), None)
    if place is not None:
        record.macs[place.name] = record.macs.get(place.name, 0) + macs
        return
    heads = next((place.name for place in tracker.scope if _has_heads(place)), None)
    if name.startswith(ATTENTION):
        query, key, value = operands[:3]
        scores, mixed = attention_macs(query, key, value)
        q, k, v = (_narrow(tracker.known_labels(tensor)) for tensor in (query, key, value))
        heads_of_q = None if q is None else q.amax(-1, keepdim=True)
        record.multiplied += [
            Multiplied(scores, q, None if k is None else k.transpose(-2, -1), heads),
            Multiplied(mixed, heads_of_q, v, heads),
        ]
    else:
        factors = args[PRODUCTS[name] :][:2] if name in PRODUCTS else (None, None)
        factors = (args[0], None) if name in CONVOLVES else factors  # a channel by itself
        left, right = (_narrow(tracker.known_labels(tensor)) for tensor in factors)
        record.multiplied.append(Multiplied(macs, left, right, heads))


def _whole(place: Place) -> bool:
    return place.whole


def _has_heads(place: Place) -> bool:
    return place.layer is not None and place.layer.heads() is not None


def _narrow(labels: Labels | None) -> Labels | None:
    return None if labels is None else narrow(labels)


def count_products(
    record: Record,
    component: IntArray,
    groups: Mapping[str, ChannelGroup],
    counted: Iterable[str],
) -> tuple[Product, ...]:
    """What is multiplied beside the layers; products that shrink alike are added up.

    Parameters
    ----------
    component : of each label.
    counted : layers whose own cost holds what they multiply.
    """
    owner = _owners(record, component, groups)
    names = list(groups)
    others = set(record.macs) - set(counted) - set(record.along_places)
    totals: dict[tuple[tuple[tuple[str, float], ...], ...], int] = {}
    if rest := sum(record.macs[name] for name in others):
        totals[()] = rest
    for one in record.multiplied:
        if one.heads is not None and one.heads in groups:
            sides = [{one.heads: 1 / groups[one.heads].width}]
        else:
            sides = list(_sides(one, component, owner, names, groups))
        key = tuple(tuple(sorted(side.items())) for side in sides)
        totals[key] = totals.get(key, 0) + one.macs
    return tuple(Product(macs, tuple(map(dict, key))) for key, macs in totals.items())


def costs_along_places(
    record: Record, component: IntArray, groups: Mapping[str, ChannelGroup]
) -> Iterator[LayerCost]:
    """What layers multiply that read places of every channel: it goes with the channels alone.

    Parameters
    ----------
    component : of each label.
    """
    owner, names = _owners(record, component, groups), list(groups)
    for module, labels in record.along_places.items():
        macs, channels = record.macs.get(module, 0), labels.numel()
        sides = _sides(Multiplied(macs, labels), component, owner, names, groups)
        shares = next(sides, {})
        kept = {name: round(share * channels) for name, share in shares.items()}
        yield LayerCost(f"{module}{REST}", 0, 0, macs, 1, channels, {}, kept)


def _owners(record: Record, component: IntArray, groups: Mapping[str, ChannelGroup]) -> IntArray:
    """Which group a component is a channel of, -1 for none."""
    owner = np.full(len(component), -1)
    made = {(touch.module, len(touch.labels)): touch.labels for touch in record.producers}
    for index, group in enumerate(groups.values()):
        for member in group.producers:
            for (module, features), labels in made.items():
                if module == member.module and member.features.max() < features:
                    owner[component[labels[member.features.ravel()]]] = index
    return owner


def _sides(
    one: Multiplied,
    component: IntArray,
    owner: IntArray,
    names: list[str],
    groups: Mapping[str, ChannelGroup],
) -> Iterator[dict[str, float]]:
    """Share of each factor that a channel of each group has."""
    shared: set[int] = set()
    for labels, own_axis in ((one.left, -2), (one.right, -1)):
        if labels is None:
            continue
        held = np.where(labels.numpy() >= 0, component[labels.numpy()], -1)
        found = np.where(held >= 0, owner[held], -1)
        side = {}
        for index in np.unique(found[found >= 0]).tolist():
            channels = np.where(found == index, held, -1)
            others = [axis for axis in range(channels.ndim) if axis != channels.ndim + own_axis]
            meets = any((channels != channels.take([0], axis)).any() for axis in others)
            if meets and index in shared:
                continue  # the same channels of both factors meet: they go at once
            if meets:
                shared.add(index)
            share = float((found == index).mean())
            side[names[index]] = share / groups[names[index]].width
        if side:
            yield side
