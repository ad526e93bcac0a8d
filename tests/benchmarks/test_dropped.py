"""The benchmark of `drop:`: what its page says of the points that are kept."""

import pytest

from benchmarks.accuracy.dropped import DROP, arguments, falls, table


def point(budget, macs, fell, **others):
    found = {"workload": "lenet5", "budget": budget, "macs": macs, "test_fall": fell}
    return found | {"test_dense": 99.0, "dense_images": 60000} | others


FIXED = [point("macs:0.9", 90.0, 0.1), point("macs:0.5", 50.0, 0.9), point("macs:0.4", 40.0, 1.1)]
FOUND = point(DROP, 55.0, 0.7, found="macs:0.55", validation_fall=0.6, most_fallen=0.98)


def test_best_fixed_budget_is_the_smallest_whose_test_accuracy_falls_by_a_point_at_most():
    (row,) = table([FOUND, *FIXED])
    assert (row["found"], row["test: fell"]) == ("macs:0.55", 0.7)
    assert (row["best fixed"], row["its MACs %"], row["its test: fell"]) == ("macs:0.5", 50.0, 0.9)


def test_no_fixed_budget_that_is_good_enough_leaves_its_cells_empty():
    (row,) = table([FOUND, FIXED[-1], point("macs:0.9", 90.0, 3.0) | {"workload": "resnet20"}])
    assert row["best fixed"] is None


def test_falls_have_a_column_for_every_fixed_budget():
    (row,) = falls([FOUND, *FIXED])
    assert (row["macs:0.4"], row["macs:0.1"], len(row)) == (1.1, None, 11)


def test_what_is_kept_is_of_all_test_images(capsys):
    with pytest.raises(SystemExit):
        arguments(["--write", "--test-images", "10"])
    assert "--test-images" in capsys.readouterr().err
