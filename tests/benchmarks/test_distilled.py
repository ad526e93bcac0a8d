"""The benchmark of distillation: what its page says of the points that are kept."""

import pytest

from benchmarks.accuracy.distilled import arguments, table


def point(seed, refit, distilled, images=64, budget="macs:0.5"):
    found = {"budget": budget, "images": images, "seed": seed, "macs": 50.0, "cpu_seconds": 9.0}
    return found | {"refit": refit, "distilled": distilled}


def test_rows_are_means_over_seeds_the_larger_budget_and_the_more_images_first():
    points = [
        point(0, 80.0, 84.0),
        point(1, 82.0, 85.0),
        point(0, 83.0, 86.0, images=2048),
        point(0, 76.0, 82.0, budget="macs:0.3"),
    ]
    rows = table(points)
    found = [(row["budget"], row["images"], row["seeds"]) for row in rows]
    assert found == [("macs:0.5", 2048, "0"), ("macs:0.5", 64, "0 1"), ("macs:0.3", 64, "0")]
    assert rows[1]["distilled %"] == "84.50 ± 0.71"
    assert rows[1]["gain"] == "3.50 ± 0.71"


def test_what_is_kept_is_of_all_test_images(capsys):
    assert arguments(["--seeds", "0"]).images == [2048, 256, 64]
    with pytest.raises(SystemExit):
        arguments(["--write", "--test-images", "10"])
    assert "--test-images" in capsys.readouterr().err
