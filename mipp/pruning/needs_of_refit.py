"""What a refit will need, told before a search begins; seconds are rough."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from mipp.device import free_bytes
from mipp.errors import option
from mipp.graph import ChannelGraph
from mipp.information.gaussian.cost import BYTES, SUMS, sums_operations
from mipp.pruning.needs import Needs, Size, announce, largest_map, no_memory, rate_of
from mipp.refit.least_squares import SOLUTIONS
from mipp.refit.sharing import ALIVE, PER_FEATURE, ROWS, WAITING

KEPT = 0.7  # of the features of a layer, about, at half of the MACs
SYSTEMS = 3  # matrices of the size of a layer's normal equations
NETWORKS = 2  # that run: the dense one, and the one that was cut


def needs_of_refit(
    graph: ChannelGraph,
    sizes: Mapping[str, Size],
    images: int,
    forward: float,
    device: torch.device,
) -> Needs:
    """Memory and seconds of a refit, whatever the budget will be.

    Parameters
    ----------
    sizes : of `sizes_of`, with the rows that a refit samples.
    forward : seconds of the pass over all images.
    """
    layers = [(_rows(size), int(KEPT * size.features), size.targets) for size in sizes.values()]
    widest = max((features for _, features, _ in layers), default=0)
    held = {
        "inputs that wait": min(WAITING, ALIVE * images * largest_map(graph)),
        "targets": sum(4 * rows * targets for rows, _, targets in layers),
        "normal equations": SYSTEMS * BYTES * widest**2,
    }
    operations = sum(_operations(*layer) for layer in layers)
    seconds = NETWORKS * forward + operations / rate_of(device, operations)
    return Needs(held, closed=True, seconds={"refit": seconds})


def foretell_refit(needs: Needs, device: torch.device) -> None:
    """Say what it will need, and refuse what this machine, or its GPU, has no memory for.

    Raises
    ------
    ConfigError : says how much is needed, how much is there, and what does without.
    """
    free = free_bytes(device)
    if free is not None and needs.peak > free:
        mend = f"lower {option('images')}, or set {option('repair')}='recalibrate'"
        raise no_memory("a refit", needs, free, device, mend)
    announce("refit", needs)


def _rows(size: Size) -> int:
    return min(size.rows, max(ROWS, PER_FEATURE * size.features))


def _operations(rows: int, features: int, targets: int) -> float:
    """Of a layer's sums, its factor and its solutions, in those of `cost.prepare_operations`."""
    again = 2 * (SOLUTIONS - 1) * 2.0 * rows * features * targets
    sums = sums_operations(rows, features, targets)
    return SUMS * (sums + again) + features**3 / 3 + 2.0 * SOLUTIONS * features**2 * targets
