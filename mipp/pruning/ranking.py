"""What a method says of the units, whatever the budget: their information, or a rival's scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mipp.budget import Budget
from mipp.criteria import CRITERIA
from mipp.errors import ConfigError, option
from mipp.graph import ChannelGraph, LayerPair
from mipp.information.estimators import estimator_of
from mipp.names import address_of
from mipp.pruning.estimates import Estimates
from mipp.selection.by_information import Choice, order_of, select_by_information
from mipp.selection.by_scores import ScoreChoice, require_budget_for_scores, select_by_criterion
from mipp.selection.prices import price_of
from mipp.selection.scores import Scores
from mipp.settings import Criterion, Limits, Method, Mipp

Provenance = Mapping[str, str]


@dataclass(frozen=True)
class InformationRanking:
    """Units by the information that they hand on.

    Parameters
    ----------
    pixels : pairs from the network's input to its first layers, where these are to be decided.

    Example
    -------
    >>> import mipp, torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    >>> mipp.Pruner(net, torch.randn(32, 4)).rank().method.worth
    'share'
    """

    method: Mipp
    estimates: Estimates
    pixels: Sequence[LayerPair] = ()

    def choose(
        self, graph: ChannelGraph, budget: Budget, limits: Limits, provenance: Provenance
    ) -> Choice:
        """What stays under a budget."""
        return select_by_information(
            graph,
            self.estimates.answers(budget.is_tested),
            self.method,
            budget,
            limits,
            provenance=provenance,
            pixels=self.pixels,
        )


@dataclass(frozen=True)
class ScoreRanking:
    """Units by a rival criterion's scores.

    Example
    -------
    >>> import mipp, torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    >>> mipp.Pruner(net, torch.randn(32, 4)).rank("l1").scores["0"].shape
    (6,)
    """

    method: Criterion
    scores: Scores

    def choose(
        self, graph: ChannelGraph, budget: Budget, limits: Limits, provenance: Provenance
    ) -> ScoreChoice:
        """What stays under a budget."""
        name = name_of(self.method)
        return select_by_criterion(
            graph, self.scores, self.method, budget, limits, name=name, provenance=provenance
        )


Ranking = InformationRanking | ScoreRanking
"""What `Pruner.rank` returns and `Pruner.plan` takes, whatever the budget."""


def name_of(method: Method) -> str:
    """What a selection by this method is called."""
    if isinstance(method, Mipp):
        return "mipp"
    return method.method if isinstance(method.method, str) else address_of(method.method)


def require_plannable(method: Method, budget: Budget) -> None:
    """Refuse names that do not exist, and budgets that the method or its order cannot meet.

    Raises
    ------
    ConfigError, BudgetError : the first thing that does not fit.
    """
    if isinstance(method, Criterion):
        if isinstance(method.method, str):
            CRITERIA.resolve(method.method)
        require_budget_for_scores(budget)
        return
    estimator_of(method.estimator)
    if method.order == "best-first" and budget.is_tested:
        raise ConfigError(
            f"{option('budget')}={budget} cannot be had with {option('order')}=best-first.\n"
            f"Expected {option('order')}=mi, which tests each unit once, got a ranking of all "
            "units at every step; change one of the two."
        )


def asks_for_time(method: Method, budget: Budget) -> bool:
    """Whether a plan needs a table of measured times."""
    priced = isinstance(method, Mipp) and method.price == "latency"
    return priced or budget.kind == "latency"


def provenance_of(method: Method, budget: Budget, seed: int) -> dict[str, str]:
    """The settings that a plan was made with, and none that it had no use for."""
    used = _used_of_mipp(method, budget) if isinstance(method, Mipp) else {"scope": method.scope}
    return {name: str(value) for name, value in {"budget": budget, **used, "seed": seed}.items()}


def _used_of_mipp(method: Mipp, budget: Budget) -> dict[str, Any]:
    name, _ = estimator_of(method.estimator)
    own = {key: value for key, value in asdict(method.estimator).items() if key != "side_by_side"}
    if name == "gaussian" and not budget.is_tested:
        del own["repeats"]
    used = {"estimator": name, **own, "order": order_of(method, budget)}
    used |= {key: getattr(method, key) for key in ("rows", "position_weight")}
    if budget.is_tested:
        return used | {"margin": method.margin, "sure": method.sure}
    price = price_of(method, budget)
    used["price"] = price
    if budget.kind != "nats":
        used["worth"] = method.worth
        if price == "unit":
            used["param_weight"] = method.param_weight
    return used
