"""What a `choose` section may ask for together, refused before any compute."""

from __future__ import annotations

from mipp.budget import parse_budget
from mipp.config import ChooseConfig
from mipp.criteria import CRITERIA, MIPP, Criterion
from mipp.errors import ConfigError, did_you_mean
from mipp.information.estimators import ESTIMATORS
from mipp.selection.by_scores import require_budget_for_scores


def require_choice(config: ChooseConfig, criterion: Criterion | None = None) -> Criterion | None:
    """The criterion, if it is one; refuses budgets that the method or the order cannot meet.

    Parameters
    ----------
    criterion : given itself, so that the method's name need not lead to it.

    Raises
    ------
    ConfigError, BudgetError : the first thing that does not fit.
    """
    if config.method != MIPP:
        criterion = criterion or CRITERIA.resolve(config.method)
    _require_known("estimator", config.estimator, tuple(ESTIMATORS))
    budget = parse_budget(config.budget)
    if config.method != MIPP:
        require_budget_for_scores(budget)
    elif config.order == "best-first" and budget.kind == "confidence":
        raise ConfigError(
            f"budget {config.budget!r} (choose.budget) cannot be had with choose.order="
            "best-first.\nExpected choose.order=mi, which tests each unit once, got a ranking of "
            "all units at every step; change one of the two."
        )
    return criterion


def _require_known(what: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise ConfigError(
            f"{what} {name!r} (choose.{what}) is unknown; {did_you_mean(name, known)}."
        )
