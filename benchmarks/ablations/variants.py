"""What was tried for the defaults: one change each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mipp.settings import Gaussian, Refit

MODEL, BUDGET = "resnet20", "macs:0.5"
BASE = {"worth": "nats", "order": "mi", "param_weight": 0.0}  # of that time


@dataclass(frozen=True)
class Variant:
    """One change of the defaults."""

    name: str
    choose: dict[str, Any] = field(default_factory=dict)
    resolution: float = Gaussian.resolution
    rows: int = Refit.rows
    ridge: float = Refit.ridge
    sums: bool = True
    solutions: int = 8  # of that time, when no step was over-relaxed
    sweeps: int = 1


VARIANTS = (
    Variant("the defaults"),
    Variant("refit: layers before a sum do not make up for the skip", sums=False),
    Variant("refit: what a ReLU stops has to come out as well", solutions=1),
    Variant("refit: 4 solutions where a ReLU follows, not 8", solutions=4),
    Variant("refit: 16 solutions", solutions=16),
    Variant("refit: 2 sweeps over the network", sweeps=2),
    Variant("refit: 8,192 rows", rows=8192),
    Variant("refit: 16,384 rows", rows=16384),
    Variant("refit: 65,536 rows", rows=65536),
    Variant("refit: ridge 0.003", ridge=0.003),
    Variant("refit: ridge 0.03", ridge=0.03),
    Variant("estimate.resolution 0.1", resolution=0.1),
    Variant("estimate.resolution 1", resolution=1.0),
    Variant("choose.worth share (the default since)", {"worth": "share"}),
    Variant("choose.position_weight 0", {"position_weight": 0.0}),
    Variant("choose.position_weight 0.2", {"position_weight": 0.2}),
    Variant("choose.position_weight 0.5", {"position_weight": 0.5}),
    Variant("choose.order best-first", {"order": "best-first"}),
    Variant("choose.price unit (not per MAC)", {"price": "unit"}),
)

BUDGETS, ORDERS = (BUDGET, "macs:0.3", "macs:0.2"), ("mi", "best-first")
IN_SHARES = {
    (budget, order): Variant(
        f"choose.worth share, choose.order {order}, {budget}",
        {"worth": "share", "order": order, "budget": budget},
    )
    for budget in BUDGETS
    for order in ORDERS
}
