"""The benchmark of rounds: its table, and what a way of pruning means to the pipeline."""

from benchmarks.accuracy import rounds
from mipp.config import load_params


def point(way, accuracy, seed=0):
    settings = {"budget": "macs:0.3", "epochs": 6, "images": 50_000, "precision": "bfloat16"}
    key = settings | {"way": way, "seed": seed}
    return key | {"macs": 29.5, "accuracy_dense": 88.0, "accuracy": accuracy, "cpu_seconds": 5.0}


def test_a_row_holds_all_seeds_of_a_way():
    rows = rounds.table(
        [point("one-shot", 80.0), point("cubic:3", 82.0), point("one-shot", 82.0, 1)]
    )
    assert [(row["way"], row["seeds"]) for row in rows] == [("one-shot", "0 1"), ("cubic:3", "0")]
    assert rows[0]["fine-tuned %"] == "81.00 ± 1.41"


def test_a_way_is_rounds_and_their_schedule_at_equal_epochs(monkeypatch):
    monkeypatch.setattr(rounds, "find_checkpoint", lambda *_: "weights.pt")
    found = {
        way: load_params(None, rounds.overrides("data", point(way, 0.0))).finetune
        for way in (*rounds.WAYS, "geometric:5")
    }
    assert {way: (f.rounds, f.round_budgets, f.distill) for way, f in found.items()} == {
        "one-shot": (1, "cubic", 0.0),
        "one-shot, distilled": (1, "cubic", 0.5),
        "cubic:3": (3, "cubic", 0.0),
        "cubic:3, distilled": (3, "cubic", 0.5),
        "geometric:5": (5, "geometric", 0.0),
    }
    assert {(f.epochs, f.precision) for f in found.values()} == {(6, "bfloat16")}
