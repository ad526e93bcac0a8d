"""Variables of the state for reinforcement learning: which columns of transitions are kept.

Environments of gymnasium (pip install '.[rl]') under random actions. With --write a run that is cut
short goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.shared.command import fitting, parse
from benchmarks.shared.kept import Point
from benchmarks.shared.point_table import PointTable
from mipp.features import TERCSelector

Values = npt.NDArray[np.float64]

ENVIRONMENTS = ("CartPole-v1", "MountainCar-v0", "Pendulum-v1")
SELECTORS = ("terc, sure", "terc", "mrmr", "cmim")
ROWS = 2000
NOISE = 4  # columns
KEY = ("environment", "selector", "seed")
COLUMNS = ("variables", "found", "twice", "noise", "gymnasium")
NOTES = f"""\
Which columns tell what the next state is, after Westphal, Hailes and Musolesi (arXiv:2401.11512),
who ask it of the actions of agents in training: {ROWS:,} transitions under random actions, their
columns the variables of the state, the action, a copy of each variable of the state, and {NOISE} of
noise, in an order drawn by the seed; the next state is the target. The state and the action are all
that it depends on. *found*: those of which a column was kept, of all, over the seeds; *twice*:
columns kept of a variable that was there already; *noise*: columns of it. `sure` finds how many by
itself, the others are asked for as many as there are variables."""


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = KEPT.parser(__doc__)
    options.add_argument("--environments", nargs="+", metavar="PATTERN", help="by name, with *")
    options.add_argument("--seeds", type=int, nargs="+", default=[*range(10)])
    return parse(options, given)


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    every = [
        (environment, selector, seed)
        for environment in fitting("--environments", options.environments or ["*"], [*ENVIRONMENTS])
        for selector in SELECTORS
        for seed in options.seeds
    ]
    KEPT.run(options, every, lambda point: measure(**point))


def measure(environment: str, selector: str, seed: int) -> Point:
    """One selection: how many variables it found, and what it kept besides."""
    state, action, after = transitions(environment, ROWS, seed)
    rng = np.random.default_rng(seed)
    columns = np.column_stack([state, action, state, rng.normal(size=(ROWS, NOISE))])
    variables = state.shape[1] + action.shape[1]
    which = [*range(variables), *range(state.shape[1]), *[-1] * NOISE]  # of each column
    order = rng.permutation(len(which))
    chosen = (
        TERCSelector("sure")
        if selector == SELECTORS[0]
        else TERCSelector(variables, order=selector)
    )
    kept = [which[order[i]] for i in chosen.fit(columns[:, order], after).get_support(indices=True)]
    told = [variable for variable in kept if variable >= 0]
    return {
        "variables": variables,
        "found": len(set(told)),
        "twice": len(told) - len(set(told)),
        "noise": len(kept) - len(told),
        "gymnasium": metadata.version("gymnasium"),
    }


def transitions(name: str, rows: int, seed: int) -> tuple[Values, Values, Values]:
    """States (n, d), random actions (n, a) and the states after them (n, d)."""
    try:
        import gymnasium
    except ImportError:
        sys.exit("ablations.states: there is no gymnasium; pip install '.[rl]'")
    environment = gymnasium.make(name)
    environment.action_space.seed(seed)
    state, _ = environment.reset(seed=seed)
    found: list[tuple[Values, Values, Values]] = []
    while len(found) < rows:
        action = environment.action_space.sample()
        after, _, ended, cut, _ = environment.step(action)
        found.append((state, np.ravel(action), after))
        state = environment.reset()[0] if ended or cut else after
    states, actions, next_states = zip(*found, strict=True)
    return tuple(np.stack(part).astype(np.float64) for part in (states, actions, next_states))  # type: ignore[return-value]


def table(points: Sequence[Point]) -> list[dict[str, Any]]:
    """A row for each environment and selector."""
    rows = []
    for environment, selector in dict.fromkeys((p["environment"], p["selector"]) for p in points):
        own = [p for p in points if (p["environment"], p["selector"]) == (environment, selector)]
        total = {name: sum(p[name] for p in own) for name in COLUMNS[:4]}
        rows.append(
            {
                "environment": environment,
                "selector": selector,
                "seeds": len(own),
                "variables found": f"{total['found']} of {total['variables']}",
                "twice": total["twice"],
                "noise": total["noise"],
            }
        )
    return rows


KEPT = PointTable(
    "ablations.states",
    "Variables of the state for reinforcement learning",
    NOTES,
    KEY,
    COLUMNS,
    table,
)
write_page = KEPT.write_page

if __name__ == "__main__":
    main()
