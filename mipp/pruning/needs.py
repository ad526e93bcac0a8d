"""What pruning will need, told before it starts, and refused where this machine has less.

The model of the page on sizing, of bytes and operations by the layers' sizes; seconds by the time
that a first forward pass and a product in float64 took here. It is right to a factor of two.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from mipp.activations import Sampling
from mipp.device import free_bytes, synchronize
from mipp.errors import ConfigError, option
from mipp.graph import ChannelGraph
from mipp.information.gaussian import cost, is_worthwhile
from mipp.layers import layer_at
from mipp.progress import say

PROBE = 768  # rows of the product by which operations are timed
WORTH_SAYING = 10.0  # seconds under which nothing is said
HELD = 8  # bytes of a number of the rows that are held, which are joined once
MAPS = 4  # of the largest, that a pass holds with the rows that are taken of it
GIB, MIB = 2**30, 2**20


@dataclass(frozen=True)
class Needs:
    """Bytes at the peak and rough seconds of a search, each by what takes them.

    `closed` says whether it is one in the closed form, which holds no rows.
    """

    bytes: Mapping[str, int]
    closed: bool
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def peak(self) -> int:
        """Bytes that are held at once."""
        return sum(self.bytes.values())

    def __str__(self) -> str:
        parts = ", ".join(f"{what} {amount(count)}" for what, count in self.bytes.items())
        return f"{amount(self.peak)} of memory ({parts})"


@dataclass(frozen=True)
class Size:
    """Of one pair: sampled rows, channels, features (input channels x kernel), targets."""

    rows: int
    channels: int
    features: int
    targets: int


def sizes_of(model: nn.Module, graph: ChannelGraph, sampling: Sampling) -> dict[str, Size]:
    """The size of every pair, by its name."""
    found = {}
    for pair in graph.pairs:
        window = layer_at(model, pair.consumer).window
        taps = math.prod(window.kernel) if window is not None else 1
        rows = sampling.images * sampling.per_image(pair.positions)
        channels, features = len(pair.features), int(pair.features.size) * taps
        found[pair.name] = Size(rows, channels, features, pair.targets)
    return found


def stored_bytes(sizes: Mapping[str, Size]) -> int:
    """Bytes of the activation store that a pipeline writes, of the rows of all pairs."""
    return sum(4 * size.rows * (size.features + size.targets) for size in sizes.values())


def states_bytes(sizes: Mapping[str, Size]) -> int:
    """Bytes of what the closed form prepares of all pairs."""
    each = (cost.state_bytes(s.rows, s.channels, s.features, s.targets) for s in sizes.values())
    return sum(each)


def needs_of_search(
    graph: ChannelGraph,
    sizes: Mapping[str, Size],
    batch: int,
    *,
    closed: bool,
    device: torch.device,
) -> Needs:
    """Memory of a search by information beside the network and the images.

    Parameters
    ----------
    sizes : of `sizes_of`.
    batch : inputs of a pass.
    closed : for the closed form without a test of significance; others hold all sampled rows.

    >>> from mipp.graph import build_graph
    >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    >>> graph = build_graph(model, torch.randn(1, 8))
    >>> sizes = sizes_of(model, graph, Sampling(64, 64, 0))
    >>> cpu = torch.device("cpu")
    >>> needs_of_search(graph, sizes, 64, closed=True, device=cpu).bytes["estimates"]
    2816
    """
    walks = (
        sum(cost.walk_bytes(s.features, s.targets) for s in (sizes[p.name] for p in pairs))
        for pairs in map(graph.pairs_of, graph.groups)
    )
    drops = sum(cost.drops_bytes(s.rows, s.features) for s in sizes.values())
    choice = drops + max(walks, default=0)
    if closed:
        estimates = states_bytes(sizes)
        if is_worthwhile(estimates, device):  # the choice finds only its own part in memory
            choice = max(0, choice - estimates)
    else:
        estimates = sum(HELD * s.rows * (s.features + s.targets) for s in sizes.values())
    held = {
        "estimates": estimates,
        "the choice": choice,
        "a pass": MAPS * batch * largest_map(graph),
    }
    return Needs(held, closed)


def seconds_of_search(
    sizes: Mapping[str, Size], forward: float, device: torch.device
) -> Mapping[str, float]:
    """Rough seconds of extraction, estimates and choice in the closed form.

    Parameters
    ----------
    forward : seconds of the pass over all images.
    """
    every = list(sizes.values())
    sums = sum(cost.sums_operations(s.rows, s.features, s.targets) for s in every)
    prepare = sum(cost.prepare_operations(s.features, s.targets) for s in every)
    walk = sum(cost.walk_operations(s.features, s.targets) for s in every)
    operations = (cost.SUMS * sums, prepare, cost.WALK * cost.WALKS * walk)
    rate = rate_of(device, sum(operations))
    sums, prepare, walk = (count / rate for count in operations)
    return {"extract": forward + sums, "estimate": prepare, "choose": walk}


def announce(what: str, needs: Needs) -> None:
    """Say what a search or a repair will need, where that takes more than a moment."""
    total = sum(needs.seconds.values())
    if total >= WORTH_SAYING:
        parts = ", ".join(f"{step} {_span(seconds)}" for step, seconds in needs.seconds.items())
        steps = f" ({parts})" if len(needs.seconds) > 1 else ""
        say(f"{what}: about {_span(total)}{steps} and {needs}")


def require_memory(
    needs: Needs, sizes: Mapping[str, Size], images: int, device: torch.device
) -> None:
    """Refuse a search that this machine, or its GPU, has no memory for.

    Raises
    ------
    ConfigError : says how much is needed, how much is there, and what to lower.
    """
    free = free_bytes(device)
    if free is not None and needs.peak > free:
        mend = _mend(needs, sizes, images, free)
        raise no_memory("a search by information", needs, free, device, mend)


def no_memory(what: str, needs: Needs, free: int, device: torch.device, mend: str) -> ConfigError:
    """The error of what needs more bytes than are free."""
    where = "this machine" if device.type == "cpu" else f"{device}"
    return ConfigError(
        f"{what} does not fit into the memory of {where}.\nExpected at most {amount(free)}, which "
        f"is free, got a need of {needs}; {mend}."
    )


def _mend(needs: Needs, sizes: Mapping[str, Size], images: int, free: int) -> str:
    """What to lower, by what takes most."""
    if max(needs.bytes, key=lambda what: needs.bytes[what]) == "a pass":
        return "give smaller batches"
    name, widest = max(sizes.items(), key=lambda item: item[1].features)
    if not needs.closed:
        return _fewer(widest.rows * free // (2 * needs.peak), images)
    few = next((n for n in range(widest.features, 0, -1) if _is_few(n, widest)), 1)
    lower = f"{_fewer(few, images)}, or " if few < widest.rows else ""
    layer = name.partition("--")[2]
    return (
        f"{lower}leave what feeds the widest layers whole, such as {option('keep_inputs')}="
        f"{[layer]}, or choose by scores with {option('method')}='taylor'"
    )


def _fewer(rows: int, images: int) -> str:
    """How to have so many rows: every image gives the same number of them."""
    if rows < images:
        return f"lower {option('images')} and {option('Mipp.rows')} to {max(rows, 1)}"
    return f"lower {option('Mipp.rows')} to {rows // images * images}"


def _is_few(rows: int, size: Size) -> bool:
    """Whether so many rows would take half of the memory."""
    return 2 * rows <= size.features and cost.prefers_dual(rows, size.features)


def largest_map(graph: ChannelGraph) -> int:
    """Bytes of what a layer makes of one input."""
    made = (c.macs // max(c.weights, 1) * c.out_features for c in graph.costs)
    return 4 * max(made, default=0)


def rate_of(device: torch.device, operations: float) -> float:
    """Multiply-accumulates in float64 per second, as `cost.prepare_operations` counts them.

    Parameters
    ----------
    operations : to come; where they take less than measuring does, infinity.
    """
    if operations <= 100 * PROBE**3:
        return math.inf
    matrix = torch.ones(PROBE, PROBE, dtype=torch.float64, device=device)
    taken = []
    for _ in range(3):
        synchronize(device)
        started = time.perf_counter()
        torch.mm(matrix, matrix)
        synchronize(device)
        taken.append(time.perf_counter() - started)
    return PROBE**3 / min(taken)


def amount(count: int) -> str:
    """Bytes in two digits, or all of a whole number.

    >>> amount(3 * 2**20), amount(int(1.26 * 2**30)), amount(130 * 2**30)
    ('3 MiB', '1.3 GiB', '130 GiB')
    """
    size, unit = (count / GIB, "GiB") if count >= GIB / 10 else (count / MIB, "MiB")
    return f"{size:.2g} {unit}" if size < 10 else f"{size:.0f} {unit}"


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
