"""What a search costs: the page says what was missed."""

import pytest

from benchmarks.cost.search_page import verdict


@pytest.mark.parametrize(
    ("model", "forwards", "rivals", "expected"),
    [
        ("resnet20", 2.5, 1.0, "2.50 forward passes (at most 2.5 aimed at: met), 1.00 times "),
        ("vgg16", 5.01, 1.2, "5.01 forward passes (at most 5 aimed at: missed), 1.20 times "),
        ("lenet5", 3.0, 0.5, "3.00 forward passes, 0.50 times "),
    ],
)
def test_a_missed_aim_is_said(model, forwards, rivals, expected):
    said = verdict(model, forwards, rivals)
    assert said.startswith(expected)
    assert said.endswith("met)" if rivals <= 1 else "missed)")
