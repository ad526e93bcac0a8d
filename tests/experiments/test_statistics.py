"""Statistics agree with hand counts and with scipy."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from mipp.experiments.panels import variant_panels
from mipp.experiments.statistics import (
    by_cell,
    collapse_bins,
    is_near_best,
    layer_ratios,
    paired_difference,
    share_near_best,
    summarise,
)


def row(method, seed, accuracy, **more):
    known = {"start": "trained", "variant": "", "budget": "ratio:0.5", "units_removed": 0.5}
    return {**known, "method": method, "seed": seed, "accuracy_finetuned": accuracy, **more}


def test_summary_is_the_sample_mean_and_deviation():
    found = summarise([1.0, 2.0, 4.0])
    assert (found.mean, found.seeds) == (7 / 3, 3)
    assert found.deviation == pytest.approx(np.std([1, 2, 4], ddof=1))
    assert summarise([3.0]).deviation == 0


def test_three_seeds_give_the_range_of_the_differences():
    found = paired_difference({0: 0.9, 1: 0.8, 2: 0.7}, {0: 0.8, 1: 0.6, 2: 0.4})
    assert (found.mean, found.low, found.high) == pytest.approx((0.2, 0.1, 0.3))


def test_only_seeds_that_both_have_are_paired():
    found = paired_difference({0: 1.0, 1: 0.5, 7: 9.0}, {0: 0.5, 1: 0.5, 8: -9.0})
    assert (found.mean, found.pairs) == (0.25, 2)


@pytest.mark.parametrize("n", [6, 12])
def test_interval_agrees_with_scipys_percentile_bootstrap(n):
    values = np.random.default_rng(n).normal(1, 2, n)
    found = paired_difference(dict(enumerate(values)), dict.fromkeys(range(n), 0.0))
    ours = (found.low, found.high)
    theirs = bootstrap(
        (values,), np.mean, n_resamples=50_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert ours == pytest.approx(tuple(theirs), abs=0.06)


def test_near_best_is_within_one_deviation_of_the_best():
    best = {0: 0.90, 1: 0.94}  # mean 0.92, deviation 0.0283
    assert is_near_best({"mipp": {0: 0.90, 1: 0.90}, "l1": best})
    assert not is_near_best({"mipp": {0: 0.89, 1: 0.89}, "l1": best})
    assert is_near_best({"mipp": {0: 0.95, 1: 0.95}, "l1": best})


def test_cells_without_a_rival_and_the_dense_network_do_not_count():
    rows = [
        row("mipp", 0, 0.5),
        row("l1", 0, 0.6),
        row("mipp", 0, 0.9, budget="ratio:0.9"),
        row("dense", 0, 0.99, budget="ratio:0.9"),
    ]
    assert share_near_best(by_cell(rows), "trained") == (0, 1)
    assert share_near_best(by_cell(rows), "untrained") == (0, 0)


def test_what_varies_comes_in_the_order_of_its_numbers():
    variants = ["data.calibration=1024", "data.calibration=256", "prune.ridge=0.1", "prune.ridge=0"]
    cells = by_cell([row("mipp", 0, 0.9, variant=variant) for variant in variants])
    assert [variant for _, variant, _ in cells] == [variants[i] for i in (1, 0, 3, 2)]


def test_accuracy_is_drawn_against_what_varies_where_it_is_one_number():
    rows = [row("mipp", 0, 0.01 * n, variant=f"extract.rows={n}") for n in (64, 32)]
    (panel,) = variant_panels(rows)
    assert panel.x == "extract.rows"
    curve = panel.curves["mipp"]
    assert dict(zip(curve.x, curve.y, strict=True)) == pytest.approx({64: 64, 32: 32})


@pytest.mark.parametrize("variant", ["", "model.name=vgg16", "extract.rows=1, prune.ridge=2"])
def test_names_and_several_things_that_vary_are_not_drawn(variant):
    assert variant_panels([row("mipp", 0, 0.5, variant=variant)]) == []


def test_runs_fall_in_bins_of_five_percent_whose_lower_edge_counts():
    runs = [
        (0.95, True),
        (0.9499, False),
        (0.96, False),
        (0.15, True),
        (0.30000000000000004, False),
    ]
    rows = [row("l1", i, 0.1, units_removed=u, collapsed=c) for i, (u, c) in enumerate(runs)]
    found = collapse_bins(rows)
    assert found == {3: {"l1": (1, 1)}, 6: {"l1": (0, 1)}, 18: {"l1": (0, 1)}, 19: {"l1": (1, 2)}}


def test_layer_ratios_have_mean_one():
    found = layer_ratios({"a": 5, "b": 9}, {"a": 10, "b": 10})
    assert found == pytest.approx({"a": 0.5 / 0.3, "b": 0.1 / 0.3})
    assert layer_ratios({"a": 10}, {"a": 10}) == {}
