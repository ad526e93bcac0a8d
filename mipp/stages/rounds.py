"""Pruning in rounds: to the budget by steps, trained after each.

    macs:0.3, 3 rounds, 9 epochs   -> macs:0.507, macs:0.326, macs:0.3, with 3 epochs after each

Stages `choose` and `prune` are the first round. Each further one, within stage `finetune`, measures
what is left, cuts and repairs it as they do, and trains. All shares are of the dense network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mipp.budget import Budget
from mipp.checkpoint import Checkpoint
from mipp.config import Params
from mipp.device import device_of
from mipp.errors import ConfigError
from mipp.metrics import count_macs, count_params
from mipp.pruning.planner import Planner
from mipp.stages.prune import repaired
from mipp.stages.splits import SplitCalibration, load_splits
from mipp.stages.values import limits_of, method_of

SHARES = ("macs", "params", "ratio")  # budgets that have steps


def budgets_of(params: Params) -> list[Budget]:
    """The budget of each round, the last that of the run.

    `cubic`: of what is to go, the share 1 - (1 - i / k) ** 3 has gone after round i of k (Zhu and
    Gupta, arXiv:1710.01878v2, eq. 1); `geometric`: each round takes the same share of what is
    there, as for lottery tickets (Frankle and Carbin, arXiv:1803.03635v5, section 2).

    Raises
    ------
    ConfigError : the budget has no steps.
    """
    asked, rounds = params.choose.budget, params.finetune.rounds
    if rounds == 1:
        return [asked]
    if asked.kind not in SHARES:
        raise ConfigError(
            f"finetune.rounds={rounds} cannot come to {asked} by steps.\nExpected a budget of "
            f"{', '.join(SHARES)}, got {asked.kind}; set finetune.rounds=1, or such as "
            "choose.budget=macs:0.5."
        )
    keeps = asked.kind != "ratio"
    last = asked.value if keeps else 1 - asked.value
    shares = [_share(params.finetune.round_budgets, last, i / rounds) for i in range(1, rounds)]
    steps = [Budget(asked.kind, share if keeps else 1 - share) for share in shares]
    return [*steps, asked]


def _share(schedule: str, last: float, done: float) -> float:
    """What stays when so much of all rounds is done."""
    return 1 - (1 - last) * (1 - (1 - done) ** 3) if schedule == "cubic" else last**done


def epochs_of(epochs: int, rounds: int) -> list[int]:
    """Epochs of each round, those that are left over to the last ones.

    >>> epochs_of(10, 3)
    [3, 3, 4]
    """
    return [epochs * (i + 1) // rounds - epochs * i // rounds for i in range(rounds)]


def next_round(
    params: Params, dense: Checkpoint, current: Checkpoint, budget: Budget
) -> Checkpoint:
    """A network that was pruned already, pruned on to a share of the dense one, and repaired.

    Raises
    ------
    BudgetError : the budget cannot be reached.
    """
    splits, device = load_splits(params), device_of(current.model)
    images = SplitCalibration(
        lambda: splits.calibration, current.shape, params.choose.batch_size, device
    )
    planner = Planner(current.model, images, seed=params.seed, narrow_heads=1)
    current = replace(current, model=planner.model)
    ranking = planner.rank(method_of(params))
    plan = planner.plan(_of_what_is_left(budget, dense, current), ranking, limits_of(params.choose))
    model = repaired(params, current, plan.selection, splits.calibration)
    assert current.selection is not None
    return replace(current, model=model, selection=current.selection.then(plan.selection))


def _of_what_is_left(budget: Budget, dense: Checkpoint, current: Checkpoint) -> Budget:
    """The same budget as a share of the network that it is left to."""
    assert current.selection is not None
    if budget.kind == "ratio":
        left = 1 - current.selection.units_removed()
        return Budget("ratio", max(0.0, 1 - (1 - budget.value) / left))
    sizes: Sequence[int] = (
        [count_macs(one.model, one.shape) for one in (dense, current)]
        if budget.kind == "macs"
        else [count_params(one.model) for one in (dense, current)]
    )
    return Budget(budget.kind, min(1.0, budget.value * sizes[0] / sizes[1]))
