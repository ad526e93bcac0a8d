"""What a page says of where its points come from."""

from pathlib import Path

from benchmarks.shared.origin import measured_now, origin_of


def test_points_are_counted_by_the_commit_and_the_versions_they_were_measured_at():
    points = [{"commit": c, "versions": "1"} for c in ("a", "b", "a")]
    assert origin_of("accuracy.own", Path("own.csv"), points) == (
        "Written by `python -m benchmarks.accuracy.own --write` from `own.csv`. Points measured: "
        "2 at a with 1; 1 at b with 1."
    )
    drawn = [point | {"seed": seed} for point, seed in zip(points, (1, 2, 0), strict=True)]
    assert "2 (seed 0 1) at a with 1; 1 (seed 2) at b" in origin_of("own", Path("own.csv"), drawn)


def test_a_point_measured_now_names_the_commit_that_it_is_told(monkeypatch):
    from mipp import origin

    origin.commit.cache_clear()
    monkeypatch.setenv("MIPP_COMMIT", "told")
    found = measured_now()
    origin.commit.cache_clear()
    assert found["commit"] == "told"
    assert "torch " in found["versions"]
