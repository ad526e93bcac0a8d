"""The code on pages runs as it stands there, and what it shows is true."""

from math import log
from pathlib import Path

import pytest

from tests.documented import ROOT, blocks, run_page

DOCS = ROOT / "docs"
QUICK = ("index.md", "method.md", "reading-the-report.md")
SHOWN = ("layers.md", "operations.md")  # parts of a whole


def with_code():
    pages = sorted(page for page in DOCS.rglob("*.md") if blocks(page))
    return [str(page.relative_to(DOCS)) for page in pages if page.name not in SHOWN]


@pytest.mark.parametrize(
    "page",
    [p if p in QUICK else pytest.param(p, marks=pytest.mark.slow) for p in with_code()],
)
def test_code_of_a_page_runs(page, capsys):
    run_page(DOCS / page, {})


def test_four_units_are_what_the_page_works_out_by_hand(capsys):
    names = {}
    run_page(DOCS / "method.md", names)
    state, target, walk = names["state"], names["target"], names["walk"]
    alone = [0.5 * log(6.5 / 2.5), 0.5 * log(6.5 / 5.5), 0.5 * log(6.5 / 2.5), 0.0]
    assert state.single(target).tolist() == pytest.approx(alone, abs=1e-6)
    assert state.joint(target) == pytest.approx(0.5 * log(6.5 / 1.5), abs=1e-6)
    before = state.eliminate(target).losses().tolist()
    assert before == pytest.approx([0, 0.5 * log(2.5 / 1.5), 0, 0], abs=1e-6)
    assert walk.loss(1) == pytest.approx(0.5 * log(2.5 / 1.5), abs=1e-6)
    assert walk.loss(2) == pytest.approx(0.5 * log(5.5 / 1.5), abs=1e-6)


def test_numbers_of_the_four_units_are_on_the_page():
    text = Path(DOCS / "method.md").read_text()
    for number in (log(6.5 / 2.5), log(6.5 / 5.5), log(2.5 / 1.5), log(6.5 / 1.5), log(5.5 / 1.5)):
        assert f"{number / 2:.3f}" in text
