"""Variables of the state are found in transitions of an environment; skipped without gymnasium."""

import sys

import numpy as np
import pytest

from benchmarks.ablations import states


@pytest.fixture
def gymnasium():
    return pytest.importorskip("gymnasium", reason="there is no gymnasium; pip install '.[rl]'")


@pytest.mark.parametrize(("environment", "variables"), [("CartPole-v1", 5), ("Pendulum-v1", 4)])
def test_state_and_action_are_found_and_nothing_else(gymnasium, environment, variables):
    found = states.measure(environment, "terc, sure", 0)
    assert found["variables"] == variables  # those of the state, and the action
    assert (found["found"], found["twice"], found["noise"]) == (variables, 0, 0)


def test_transitions_follow_each_other_until_an_episode_ends(gymnasium):
    """The cart moves by a fiftieth of a second of its speed."""
    now, action, after = states.transitions("CartPole-v1", 200, 0)
    assert (now.shape, action.shape, after.shape) == ((200, 4), (200, 1), (200, 4))
    np.testing.assert_allclose(after[:, 0] - now[:, 0], 0.02 * now[:, 1], atol=1e-6)
    begun = (now[1:] != after[:-1]).any(1)
    assert 0 < begun.sum() < 30
    assert (np.abs(now[1:][begun]) <= 0.05).all()  # where CartPole begins


def test_without_gymnasium_what_to_install_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(SystemExit, match=r"pip install '\.\[rl\]'"):
        states.transitions("CartPole-v1", 1, 0)


def test_a_row_adds_up_the_seeds():
    point = {"environment": "CartPole-v1", "selector": "terc", "variables": 5, "gymnasium": "1"}
    counts = ({"found": 5, "twice": 0, "noise": 0}, {"found": 3, "twice": 1, "noise": 1})
    (row,) = states.table([point | {"seed": seed} | each for seed, each in enumerate(counts)])
    assert (row["variables found"], row["twice"], row["noise"]) == ("8 of 10", 1, 1)
