"""Attentions that are free to become narrower: nothing else in their network goes by their heads.

What an attention computes alone is known (`mipp/layers/heads.py`). How a network calls it, and what
else it reads of it, is not: an argument may turn queries, the size of a head divide an answer. So
both are run: narrower heads, and heads as wide as they were that tell no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn

from mipp.copies import copy_of
from mipp.device import dtype_of
from mipp.errors import ModelError
from mipp.evaluation import evaluating
from mipp.graph.passes import seeded
from mipp.hooked_mode import hooked
from mipp.inputs import Inputs, call, tensors_in
from mipp.layers.heads import Attention, is_close
from mipp.narrowing.bases import any_bases, as_wide, in_bases


def free_to_narrow(
    model: nn.Module, found: Sequence[Attention], inputs: Inputs, size: int
) -> list[Attention]:
    """Those of which wide and narrow heads that tell the same make the same network."""
    if not found:
        return []
    model = copy_of(model)
    apart = [replace(one, module=model.get_submodule(one.name)) for one in found]
    if _are_free(model, apart, inputs, size):
        return list(found)
    return [
        one
        for one, own in zip(found, apart, strict=True)
        if len(found) > 1 and _are_free(model, [own], inputs, size)
    ]


def _are_free(model: nn.Module, found: Sequence[Attention], inputs: Inputs, size: int) -> bool:
    """Whether these are; they have their weights again afterwards."""
    before = [one.weights() for one in found]
    bases = [any_bases(own) for own in before]
    ways = as_wide, in_bases
    made = []
    try:
        for way in ways:
            for one, own, basis in zip(found, before, bases, strict=True):
                one.take(way(own, basis, size))
            made.append(_computed(model, found, inputs))
    except torch.OutOfMemoryError:
        raise
    except Exception:  # of the network's own code, which expects heads as they were
        return False
    finally:
        for one, own in zip(found, before, strict=True):
            one.take(own)
    wide, narrow = made
    kind = dtype_of(model)
    return len(wide) == len(narrow) and all(map(is_close, narrow, wide, repeat(kind)))


def _computed(model: nn.Module, found: Sequence[Attention], inputs: Inputs) -> list[Tensor]:
    """What the attentions make, and the network."""
    made: list[Any] = []

    def see(
        one: Attention, _: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any
    ) -> None:
        if one.attends_elsewhere(args, kwargs):
            raise ModelError(f"{one.name} is given other keys than queries")
        made.append(output)

    watching = (
        one.module.register_forward_hook(partial(see, one), with_kwargs=True) for one in found
    )
    with evaluating(model), torch.inference_mode(), seeded(model), hooked(watching):
        made.append(call(model, inputs))
    return [tensor.clone() for tensor in tensors_in(made) if tensor.is_floating_point()]
