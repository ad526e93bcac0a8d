"""One network of the zoo, pruned by Torch-Pruning to the same share."""

from __future__ import annotations

import time

from torch import nn

from benchmarks.rivals.any_network import HEADS, Cut, prune_to_share
from benchmarks.shared.core_seconds import at_most
from benchmarks.validation.networks.network import Network
from benchmarks.validation.zoo_counts import (
    built,
    doubled,
    farthest,
    flops,
    outputs,
    trains,
)
from benchmarks.validation.zoo_network import FEW, SHARE, Row, tried
from mipp.errors import MippError
from mipp.evaluation import evaluating
from mipp.graph import build_graph
from mipp.inputs import Inputs, each
from tests.oracles import features_zeroed

SECONDS = 30.0  # of a core, for each way with heads
REACHED = 0.05  # from the budget, at most
IDENTICAL = 1e-6  # of the largest output; generous, for scales that are kept in single precision


def measure_rival(network: Network) -> Row:
    """The better of what comes of whole heads and of thinner ones."""
    model, inputs = built(network), network.inputs(FEW)
    one = each(inputs, lambda tensor: tensor[:1])
    makers, feasible = outside_of_it(model, inputs)
    row: Row = {}
    for heads in HEADS:
        started = time.perf_counter()
        try:
            with at_most(SECONDS):
                cut = prune_to_share(model, inputs, SHARE, lambda m: flops(m, one), makers, heads)
        except Exception as error:  # Torch-Pruning's, or of the network that it left
            row = row or {"raised": f"{type(error).__name__}: {error}"[:200]}
            continue
        found = checked(model, cut, inputs, feasible) | {"seconds": time.perf_counter() - started}
        if "share" not in row or found["right"]:
            row = found
        if found["right"]:
            break
    return row


def checked(model: nn.Module, cut: Cut, inputs: Inputs, feasible: bool) -> Row:
    """Whether what it pruned runs, computes what zeroing computes, and trains."""
    dense, found = outputs(model, inputs), outputs(cut.model, inputs)
    runs = [out.shape for out in found] == [out.shape for out in dense]
    runs &= all(bool(out.isfinite().all()) for out in found)
    row: Row = {"share": cut.share, "forward": runs}
    row["identity"] = runs and (
        not feasible or tried(lambda: _off_by(model, cut, inputs) <= IDENTICAL)
    )
    row["train"] = tried(lambda: trains(cut.model.float(), inputs))
    checks = (runs, row["identity"], row["train"], abs(cut.share - SHARE) <= REACHED)
    row["right"] = all(check is True for check in checks)
    return row


def _off_by(model: nn.Module, cut: Cut, inputs: Inputs) -> float:
    model.double()
    try:
        with evaluating(model), features_zeroed(model, cut.zeroed, cut.uncounted):
            expected = outputs(model, doubled(inputs))
    finally:
        model.float()
    return farthest(outputs(cut.model.double(), doubled(inputs)), expected)


def outside_of_it(model: nn.Module, inputs: Inputs) -> tuple[list[str], bool]:
    """The layers whose outputs the network's are, which nobody prunes; whether zeroing is a test.

    It is none where forward itself takes means over channels, which then go over those that stay.
    """
    try:
        graph = build_graph(model, each(inputs, lambda tensor: tensor[:1]))
    except MippError:
        return [], True
    makers = [name for name, reason in graph.left_whole.items() if reason.category == "output"]
    return makers, not any(group.statistics for group in graph.groups.values())
