"""Scores exist only where they can rank the units of a network."""

import numpy as np
import pytest
import torch

from mipp.errors import InputError, ScoreError
from mipp.selection.scores import Scores

WIDTHS = {"conv": 3, "fc": 2}
GOOD = {"conv": np.array([1.0, 1.0, 1.0]), "fc": np.array([2.0, 2.0])}


def scores_of(widths=WIDTHS, **changes):
    values = {name: value for name, value in (GOOD | changes).items() if value is not None}
    return Scores(values, widths, "method 'mine'")


def test_scores_are_the_values_in_the_order_of_the_groups():
    found = Scores({"fc": GOOD["fc"], "conv": GOOD["conv"]}, WIDTHS, "mine")
    assert list(found) == ["conv", "fc"]
    assert found["fc"].tolist() == [2, 2]
    assert len(found) == 2


def test_single_precision_is_taken_and_keeps_its_values():
    found = scores_of(fc=np.array([0.1, 0.2], np.float32))
    assert found["fc"].dtype == np.float64
    assert found["fc"].tolist() == [float(np.float32(0.1)), float(np.float32(0.2))]


def test_units_of_a_group_may_be_alike_beside_others():
    assert scores_of()["conv"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("width", [0, 1])
def test_single_unit_needs_no_rank(width):
    assert len(Scores({"a": np.zeros(width)}, {"a": width}, "mine")["a"]) == width


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"fc": None}, ["left out group 'fc'", "groups conv, fc", "got those of conv"]),
        ({"head": GOOD["fc"]}, ["scored 'head', no group", "conv, fc, head"]),
        ({"fc": [1.0, 2.0]}, ["group 'fc'", "are no floats", "shape (2,)", "got a list"]),
        ({"fc": np.array([1, 2])}, ["'fc'", "are no floats", "got a ndarray int64"]),
        ({"fc": torch.ones(2)}, ["'fc'", "a Tensor torch.float32", ".double().cpu().numpy()"]),
        ({"fc": np.array([1.0])}, ["'fc'", "each of 2 channels", "got shape (1,)"]),
        ({"fc": np.ones((2, 1))}, ["'fc'", "shape (2,)", "got shape (2, 1)"]),
        (
            {"fc": np.array([1.0, np.nan])},
            ["'fc'", "finite numbers, got nan for 1 of 2", "first of them 1"],
        ),
        ({"conv": np.array([-np.inf, 1, 2])}, ["'conv'", "got -inf for 1 of 3", "of them 0"]),
        (
            {"fc": np.ones(2)},
            ["tells no unit from another", "got 1 for all 5 channels of 2 groups", "pass loss="],
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_what_cannot_rank_is_refused(changes, parts):
    with pytest.raises(ScoreError) as refusal:
        scores_of(**changes)
    assert [part for part in ["method 'mine'", *parts] if part not in str(refusal.value)] == []
    assert isinstance(refusal.value, InputError)


def test_the_only_group_of_a_network_needs_units_that_differ():
    with pytest.raises(ScoreError, match="tells no unit from another"):
        Scores({"a": np.zeros(2)}, {"a": 2}, "mine")


def test_what_is_no_mapping_is_refused():
    with pytest.raises(ScoreError, match=r"(?s)gave no scores.*groups conv, fc, got a list"):
        Scores([GOOD["conv"]], WIDTHS, "method 'mine'")
