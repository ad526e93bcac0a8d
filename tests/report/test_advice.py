"""What a reader is told to try next hangs on what the run's numbers say."""

import pytest

from mipp.report.advice import advice
from mipp.report.run import read_run


def told(workdir):
    return "\n".join(note.text for note in advice(read_run(workdir.write())))


def kept_whole(workdir):
    workdir.metrics["accuracy_finetuned"] = 0.95


def lost(workdir):
    workdir.metrics["accuracy_finetuned"] = 0.85


def lost_untrained(workdir):
    workdir.without_repair()


def lost_with_a_teacher(workdir):
    lost(workdir)
    workdir.params["finetune"]["distill"] = 0.5
    workdir.metrics["accuracy_distilled"] = 0.91


def slow(workdir):
    workdir.metrics["latency_ms"] = 1.8


def within(budget, change=kept_whole):
    def changed(workdir):
        change(workdir)
        workdir.params["choose"]["budget"] = budget

    return changed


def compared(workdir):
    point = {"budget": "macs:0.5", "macs_share": 0.5, "params_share": 0.5}
    workdir.trade_off = [point | {"lost": 0.1, "metric": 94.0}]


@pytest.mark.parametrize(
    ("change", "said", "not_said"),
    [
        (kept_whole, ["macs:0.30", "drop:1.0", "choose.compare"], ["distill", "latency:"]),
        (lost, ["10.00 points", "prune.repair=distill", "finetune.distill=0.5"], ["drop:1.0"]),
        (lost_untrained, ["finetune.epochs=10", "prune.repair=distill"], ["finetune.distill"]),
        (lost_with_a_teacher, [], ["prune.repair", "finetune."]),
        (slow, ["latency:0.50", "round_to=8"], []),
        (compared, [], ["choose.compare"]),
        (within("drop:1.0"), ["macs:0.30", "drop:2.0", "at most 2 points"], ["drop:1.0"]),
        (within("drop:0.5"), ["drop:1.0", "at most a point"], []),
        (within("drop:1.5"), ["drop:3.0", "at most 3 points"], ["drop:1"]),
        (within("latency:0.7", slow), ["round_to=8"], ["latency:"]),
    ],
)
def test_advice_follows_from_the_numbers(workdir, change, said, not_said):
    change(workdir)
    text = told(workdir)
    assert [part for part in said if part not in text] == []
    assert [part for part in not_said if part in text] == []


def test_a_network_pruned_untrained_is_not_told_to_shrink_for_beating_chance(workdir):
    workdir.at_initialisation()
    assert "Nothing was lost" not in told(workdir)
