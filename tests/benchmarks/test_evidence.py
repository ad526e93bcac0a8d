"""The page of evidence says what the tables hold, and what they lack."""

import json

import pytest

from benchmarks.evidence.claims import UNMEASURED, against, collapses, errors
from benchmarks.evidence.page import write_page
from mipp.errors import DataError
from mipp.experiments.results import write_table
from mipp.experiments.statistics import strict_sign

ABOUT = {
    "title": "LeNet-5 on MNIST",
    "notes": "By hand.",
    "scale": "small",
    "points": "9",
    "command": "mipp sweep experiments/lenet5-mnist.yaml --scale small",
}


def row(method, seed, accuracy, **more):
    known = {
        "start": "trained",
        "variant": "",
        "budget": "ratio:0.95",
        "budget_kind": "ratio",
        "budget_value": 0.95,
        "accuracy_pruned": 0.2,
        "accuracy_refit": 0.3,
        "units_removed": 0.95,
        "params": 500,
        "params_dense": 1000,
        "macs": 50,
        "macs_dense": 100,
        "latency_ms": 1.0,
        "latency_device": "cpu, 1 threads",
        "seconds_search": 2.0,
        "collapsed": accuracy < 0.2,
        "widths": json.dumps({"conv1": 1, "fc1": 4}),
        "widths_dense": json.dumps({"conv1": 6, "fc1": 120}),
        "commit": "abc",
        "versions": json.dumps({"torch": "2.0"}),
    }
    return {**known, "method": method, "seed": seed, "accuracy_finetuned": accuracy, **more}


ROWS = [
    *(row("mipp", seed, accuracy) for seed, accuracy in enumerate((0.90, 0.92, 0.94))),
    *(row("synflow", seed, accuracy) for seed, accuracy in enumerate((0.97, 0.98, 0.1))),
    *(row("taylor", seed, accuracy) for seed, accuracy in enumerate((0.95, 0.96, 0.97))),
]


@pytest.fixture
def page(tmp_path):
    (tmp_path / "results").mkdir()
    write_table(ROWS, tmp_path / "results/lenet5-mnist.parquet", ABOUT)
    page = tmp_path / "docs/evidence.md"
    write_page(tmp_path / "results", page)
    return page


def test_page_of_a_sweep_shows_means_losses_collapse_and_what_is_missing(page):
    sweep = page.parent / "evidence/lenet5-mnist.md"
    text = sweep.read_text()
    assert "| mipp | 92.00 ± 2.00 (3) |" in text
    assert "taylor reaches 96.00 ± 1.00 %, mipp 92.00 %" in text
    assert "| synflow | 1 of 3 |" in text
    assert "-4.00 \\[-5.00, -3.00\\]" in text
    assert "Seeds 0, 1, 2; source at abc" in text
    pictures = [line for line in text.splitlines() if line.startswith("![")]
    assert len(pictures) > 2
    for line in pictures:
        assert (sweep.parent / line.partition("](")[2].rstrip(")")).stat().st_size > 1000


def test_first_page_counts_by_the_sign_of_all_seeds_and_names_each_loss(page):
    text = page.read_text()
    assert "every paired seed in 0 comparisons, below it on every one in 1; 1 are open." in text
    assert "| taylor | 1 | 1 | 0 |" in text  # above mipp on each seed, above synflow on one
    assert "| mipp | 0 | 1 | 1 |" in text
    assert "| lenet5-mnist | trained | ratio:0.95 | taylor | -4.00 |" in text
    assert "not measured yet" in text
    assert "- [LeNet-5 on MNIST](evidence/lenet5-mnist.md): 9 points." in text


def test_same_tables_give_the_same_pages_and_pictures(page, tmp_path):
    before = {f: f.read_bytes() for f in page.parent.rglob("*") if f.is_file()}
    write_page(tmp_path / "results", page)
    assert {f: f.read_bytes() for f in page.parent.rglob("*") if f.is_file()} == before
    assert len(before) > 5


def test_headline_adds_up_all_experiments_and_the_largest_comes_first(tmp_path):
    alone = [row("mipp", seed, 0.9) for seed in range(3)]
    alone += [row("taylor", seed, 0.8) for seed in range(3)]
    write_table(alone, tmp_path / "a.parquet", {**ABOUT, "title": "Small one"})
    write_table(ROWS, tmp_path / "b.parquet", ABOUT)
    write_page(tmp_path, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert "every paired seed in 1 comparisons, below it on every one in 1; 1 are open." in text
    assert text.index("[LeNet-5 on MNIST]") < text.index("[Small one]")


@pytest.mark.parametrize(
    ("ours", "theirs", "sign"),
    [
        ((3, 3, 3), (1, 2, 2), 1),
        ((1, 2, 2), (3, 3, 3), -1),
        ((3, 3, 1), (1, 2, 2), 0),
        ((3, 3, 2), (1, 2, 2), 0),  # a tie decides nothing
        ((3, 3), (1, 1), 0),  # nor do two seeds
    ],
)
def test_a_comparison_is_decided_by_all_seeds_or_open(ours, theirs, sign):
    pairs = ({seed: float(x) for seed, x in enumerate(side)} for side in (ours, theirs))
    assert strict_sign(*pairs) == sign


def test_claims_count_cells_and_runs():
    tables = {"x": ROWS}
    assert against("x", "trained", "synflow")(tables) == "above synflow in 1 of 1 cells"
    assert against("x", "trained", "taylor")(tables) == "above taylor in 0 of 1 cells"
    assert against("x", "untrained", "taylor")(tables) == UNMEASURED
    said = "mipp collapsed in 0 of 3 runs, the others in 1 of 6"
    assert collapses("x", "trained", 0.95)(tables) == said
    assert errors("x", 400)(tables) == "no network as small"
    assert errors("x", 500)(tables).startswith("8.00 ± 2.00 % error (3 seeds) at ratio:0.95")


def test_no_table_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds none"):
        write_page(tmp_path, tmp_path / "page.md")
