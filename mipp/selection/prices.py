"""What the nats of a unit are divided by, per group."""

from __future__ import annotations

from collections.abc import Mapping

from mipp.budget import Budget
from mipp.graph import ChannelGraph
from mipp.settings import Mipp, Price

CHEAPEST = 0.05  # of the mean price: less is noise of the clock


def price_of(method: Mipp, budget: Budget) -> Price:
    """What nats are divided by: `price`, or with `budget` whatever the budget counts."""
    if method.price != "budget":
        return method.price
    counted: Mapping[str, Price] = {"params": "params", "macs": "macs", "latency": "latency"}
    return counted.get(budget.kind, "unit")


def prices_of(graph: ChannelGraph, method: Mipp, budget: Budget) -> Mapping[str, float]:
    """What the nats of a unit are divided by, per group.

    Where all units cost the same, one of more parameters is cheaper by their number to the power
    of `param_weight`: training after pruning can do more with it.
    """
    price = price_of(method, budget)
    prices = unit_prices(graph, price)
    if price != "unit" or budget.kind == "nats":  # nats count as they are
        return prices
    weights = unit_prices(graph, "params")
    return {group: paid / weights[group] ** method.param_weight for group, paid in prices.items()}


def unit_prices(graph: ChannelGraph, price: Price) -> dict[str, float]:
    """What removing one channel of each group saves at full width, their mean being 1.

    Of time it is the mean over half of the group's channels, and `CHEAPEST` at least: the clock
    resolves no single channel, and where it sees nothing at all nats would count without end.
    """
    if price == "unit":
        return dict.fromkeys(graph.groups, 1.0)
    if price == "latency":
        return _time_prices(graph)
    count = graph.params if price == "params" else graph.macs
    full = count(graph.widths)
    saved = {g: full - count({**graph.widths, g: graph.widths[g] - 1}) for g in graph.groups}
    units = sum(graph.widths.values())
    mean = sum(saved[g] * graph.widths[g] for g in graph.groups) / units
    return {group: saving / mean for group, saving in saved.items()}


def _time_prices(graph: ChannelGraph) -> dict[str, float]:
    full = graph.milliseconds(graph.widths)
    saved = {}
    for group, width in graph.widths.items():
        half = (width + 1) // 2
        saved[group] = full - graph.milliseconds({**graph.widths, group: width - half})
        saved[group] /= half
    units = sum(graph.widths.values())
    mean = sum(saved[g] * graph.widths[g] for g in saved) / units
    floored = {g: max(ms, CHEAPEST * mean, 1e-300) for g, ms in saved.items()}
    mean = sum(floored[g] * graph.widths[g] for g in saved) / units
    return {g: ms / mean for g, ms in floored.items()}
