"""What a search costs: the page is that of the kept measurements, and says what was missed."""

from pathlib import Path

import pytest

from benchmarks.cost import search_page
from benchmarks.cost.search_page import verdict, write_page

ROOT = Path(__file__).parents[2]


def test_the_page_is_that_of_the_kept_results(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(search_page, "PAGE", tmp_path / "search.md")
    write_page()
    written = (tmp_path / "search.md").read_text()
    assert written == Path("docs/search.md").read_text()
    assert "## vgg16" in written
    assert "## Growth" in written


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
