"""What benchmarks keep: points in a CSV file, and options that the kept does not name."""

import pytest

from benchmarks.shared.command import parse, parser
from benchmarks.shared.kept import Points

KEY, COLUMNS = ("method", "seed"), ("method", "seed", "share", "note")


def points_in(file):
    return Points(file, COLUMNS, KEY)


def test_a_point_comes_back_as_it_was_added(tmp_path):
    points_in(tmp_path / "a.csv").add({"method": "l1", "seed": 0, "share": 0.25, "note": None})
    assert points_in(tmp_path / "a.csv").all() == [
        {"method": "l1", "seed": 0, "share": 0.25, "note": None}
    ]
    assert (tmp_path / "a.csv").read_bytes() == b"method,seed,share,note\r\nl1,0,0.25,\r\n"


def test_a_point_measured_again_takes_the_place_of_the_one_before(tmp_path):
    points = points_in(tmp_path / "a.csv")
    for method, share in (("l1", 0.1), ("l2", 0.2), ("l1", 0.3)):
        points.add({"method": method, "seed": 0, "share": share})
    kept = points_in(tmp_path / "a.csv").all()
    assert [(p["method"], p["share"]) for p in kept] == [("l1", 0.3), ("l2", 0.2)]


def test_only_what_is_not_kept_is_missing(tmp_path):
    points_in(tmp_path / "a.csv").add({"method": "l1", "seed": 0})
    every = [{"method": "l1", "seed": seed} for seed in (0, 1)]
    assert points_in(tmp_path / "a.csv").missing(every) == every[1:]


def test_without_a_file_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    points = points_in(None)
    points.add({"method": "l1", "seed": 0})
    assert len(points.all()) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_the_kept_does_not_name_is_refused_with_write(capsys):
    def given(*words):
        options = parser("cost.search", "")
        options.add_argument("--train-images", type=int, default=8)
        return parse(options, words, fixed=["train_images"])

    assert given("--train-images", "4").train_images == 4
    assert given("--write", "--train-images", "8").write
    with pytest.raises(SystemExit, match="2"):
        given("--write", "--train-images", "4")
    assert "--write keeps results of --train-images 8, got 4" in capsys.readouterr().err
