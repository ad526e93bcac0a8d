"""One network of the zoo, pruned with all defaults, and all that people do with the result."""

from __future__ import annotations

import copy
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

import mipp
from benchmarks.validation.networks.network import Network
from benchmarks.validation.zoo_counts import (
    IDENTICAL,
    SINGLE,
    built,
    doubled,
    farthest,
    flops,
    outputs,
    trains,
)
from mipp.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mipp.cut import apply_selection
from mipp.errors import MippError
from mipp.evaluation import evaluating
from mipp.graph import ChannelGraph
from mipp.inputs import Inputs, each, shape_of
from mipp.process.peak_memory import peak_rss_mb
from mipp.selection.selection import Selection
from tests.oracles import dropped_channels_zeroed

BUDGET, SHARE = "macs:0.5", 0.5
IMAGES, FEW = 16, 4

Row = dict[str, Any]


def measure(network: Network, *, export: bool = True) -> Iterator[Row]:
    """What is known of a network, piece by piece, so that a time-out leaves what was there."""
    model, inputs = built(network), network.inputs(IMAGES)
    few, one = (each(inputs, lambda tensor, n=n: tensor[:n]) for n in (FEW, 1))
    dense = flops(model, one)
    yield {"params": sum(parameter.numel() for parameter in model.parameters())}
    before, started = peak_rss_mb(), time.perf_counter()
    pruner = mipp.Pruner(model, [(inputs, None)], images=IMAGES)
    try:
        yield described(pruner.graph, network.narrower)
        found = pruner.cut(pruner.plan(BUDGET, pruner.rank()))
    except MippError as error:
        yield {"refused": f"{type(error).__name__}: {error}"}
        return
    yield {"seconds": time.perf_counter() - started, "mib": peak_rss_mb() - before}
    share = flops(found.model, one) / dense
    yield {"share": share, "budget": abs(share - SHARE) <= 0.02}
    yield {"forward": all(bool(out.isfinite().all()) for out in outputs(found.model, few))}
    yield {"checkpoint": comes_back(found, network, few)}
    yield {"train": tried(lambda: trains(found.model, few))}
    error = off_by(pruner.model, pruner.graph, found.selection, few)
    yield {"identity": error <= (IDENTICAL if doubles(model, few) else SINGLE), "off_by": error}
    if export:
        yield exported(found.model, inputs)


def described(graph: ChannelGraph, narrower: int) -> Row:
    """Groups, the least share of MACs, and the shares that are left whole, by category.

    The least share is that of one channel in every group of the network that is not narrower.
    """
    full = max(1, graph.macs(graph.widths))
    macs: Counter[str] = Counter()
    for cost in graph.costs:
        macs[cost.owner] += cost.macs
    reasons: Counter[str] = Counter()
    for module, reason in graph.left_whole.items():
        if reason.category != "output":
            reasons[reason.category] += macs[module] / full
    return {
        "groups": len(graph.groups),
        "least": graph.macs(dict.fromkeys(graph.widths, 1 / narrower)) / full,
        "whole": sum(reasons.values()),
        "reasons": dict(reasons.most_common()),
        "texts": dict(Counter(map(str, graph.left_whole.values())).most_common(6)),
    }


def tried(check: Any) -> Any:
    """The check's answer, or what it raised."""
    try:
        return check()
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200]


def comes_back(found: mipp.Pruned, network: Network, inputs: Inputs) -> bool:
    """Whether the file that was saved rebuilds the same network bit by bit."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_checkpoint(path, Checkpoint(found.model, None, found.selection, shape_of(inputs)))
        read = load_checkpoint(path, build=network.build).model
    own, others = found.model.state_dict(), read.state_dict()
    return own.keys() == others.keys() and all(torch.equal(own[n], others[n]) for n in own)


def exported(model: nn.Module, inputs: Inputs) -> Row:
    """Whether the program read back from disk computes the same, and why not."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            mipp.export_network(model, shape_of(inputs), Path(folder))  # compares what it wrote
        except Exception as error:
            return {"export": False, "export_error": f"{type(error).__name__}: {error}"[:300]}
    return {"export": True}


def doubles(model: nn.Module, inputs: Inputs) -> bool:
    """Whether a network runs in double precision; forward may make tensors of single precision."""
    try:
        outputs(copy.deepcopy(model).double(), doubled(inputs))
    except MippError:
        return False
    return True


def off_by(model: nn.Module, graph: ChannelGraph, selection: Selection, inputs: Inputs) -> float:
    """How far the cut network is from the dense one with dropped channels zero where read."""
    if doubles(model, inputs):
        model, inputs = model.double(), doubled(inputs)
    cut = apply_selection(model, selection, each(inputs, lambda tensor: tensor[:1]))
    with evaluating(model), dropped_channels_zeroed(model, graph, selection):
        expected = outputs(model, inputs)
    return farthest(outputs(cut, inputs), expected)
