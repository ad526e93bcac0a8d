"""Attentions to other tokens than their queries, taken apart so that each side can be cut."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from mipp.errors import ModelError
from mipp.evaluation import evaluating
from mipp.graph.passes import own_pass
from mipp.graph.trail import run_once
from mipp.hooked_mode import hooked
from mipp.inputs import Call, Inputs
from mipp.layers.cross_attention import (
    ProjectedAttention,
    attends_elsewhere,
    can_be_projected,
)


def with_projections(model: nn.Module, example: Inputs, calls: Sequence[Call] = ()) -> nn.Module:
    """The model, or a copy whose attentions to other tokens are made of layers.

    Torch's own attention, given keys and values that are not its queries, is one of
    `ProjectedAttention` in the copy, which computes the same; any other stays as it is, and so do
    all where forward reads what those have not, such as `in_proj_weight`.

    Parameters
    ----------
    example, calls : as for `build_graph`.

    Raises
    ------
    ModelError : the model cannot be run, or a call fails.
    """
    found: set[str] = set()

    def note(name: str, module: nn.Module, args: tuple[Any, ...], kwargs: Any) -> None:
        if attends_elsewhere(module, args, kwargs):
            found.add(name)

    able = [(name, module) for name, module in model.named_modules() if can_be_projected(module)]
    if not able:
        return model
    noting = (
        module.register_forward_pre_hook(partial(note, name), with_kwargs=True)
        for name, module in able
    )
    with hooked(noting):
        run_once(model, example)
        with evaluating(model), torch.no_grad():
            for asked in calls:
                own_pass(model, asked).run(model, example)
    if not found:
        return model
    apart = copy.deepcopy(model)
    for name in found:
        parent, _, key = name.rpartition(".")
        setattr(apart.get_submodule(parent), key, ProjectedAttention(apart.get_submodule(name)))
    return apart if _runs(apart, example) else model


def _runs(apart: nn.Module, example: Inputs) -> bool:
    """Whether forward reads nothing of an attention that layers in its place have not."""
    try:
        run_once(apart, example)
    except ModelError:  # the network as it is has run
        return False
    return True
