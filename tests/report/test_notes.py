"""Each note appears exactly when the data calls for it."""

import math

import pytest

from mipp.report.notes import noise_points, notes
from mipp.report.run import read_run


def texts(workdir, level=None):
    run = read_run(workdir.write())
    return "\n".join(n.text for n in notes(run) if level in (None, n.level))


def near_collapse(workdir):
    workdir.floor = {"fc1": 1}


def near_collapse_by_score(workdir):
    workdir.params["choose"]["method"] = "l1"
    workdir.floor = {"fc1": 0}


def collapse(workdir):
    workdir.metrics["collapsed"] = True


def empty_group(workdir):
    workdir.metrics |= {"collapsed": True, "collapsed_groups": ["fc1"]}


def slower(workdir):
    workdir.metrics["latency_ms"] = 2.1


def little_faster(workdir):
    workdir.metrics["latency_ms"] = 1.5


def refit_hurts(workdir):
    workdir.metrics["accuracy_refit"] = 0.30


def recalibration_hurts(workdir):
    workdir.metrics["accuracy_recalibrated"] = 0.30


def refit_error_rises(workdir):
    workdir.fits[0]["error_after"] = 0.6


def finetuning_off(workdir):
    workdir.without_repair()


def finetuning_hurts(workdir):
    workdir.metrics["accuracy_finetuned"] = 0.80


def untrained(workdir):
    workdir.history["train"] = []
    workdir.metrics["pruned_when"] = "untrained"


def at_initialisation(workdir):
    workdir.at_initialisation()


def at_initialisation_from_weights(workdir):
    workdir.at_initialisation()
    workdir.params["model"]["weights"] = "w.pt"


def diverged(workdir):
    workdir.history["train"][1]["train_loss"] = math.nan


def budget_exceeded(workdir):
    workdir.params["choose"]["budget"] = "macs:0.4"


def budget_undershot(workdir):
    workdir.params["choose"]["budget"] = "macs:0.6"


def nothing_removed(workdir):
    workdir.params["choose"]["budget"] = "macs:1"
    workdir.metrics["macs"] = workdir.metrics["macs_dense"]


def narrow_heads(workdir):
    workdir.heads = {"blocks.0.attn": 16, "blocks.1.attn": 8, "blocks.2.attn": 16}


def time_budget_exceeded(workdir):
    workdir.params["choose"]["budget"] = "latency:0.5"
    workdir.metrics |= {"latency_ms": 0.56, "latency_dense_ms": 1.0}


def time_budget_met(workdir, latency_ms):
    workdir.params["choose"]["budget"] = "latency:0.5"
    workdir.metrics |= {"latency_ms": latency_ms, "latency_dense_ms": 1.0}


WARNINGS = [
    (near_collapse, "Near-collapse, only the floor keeps `fc1` (1 of 4 channels)"),
    (near_collapse_by_score, "Near-collapse, down to the floor: `fc1` (2 of 4 channels)"),
    (collapse, "no better than answering the most common class"),
    (empty_group, "no channel is left in `fc1`"),
    (slower, "did not make the network faster: 0.95x"),
    (refit_hurts, "Refit lowered the accuracy: 60.00 → 30.00 %."),
    (recalibration_hurts, "Batch-norm recalibration lowered the accuracy: 60.00 → 30.00 %."),
    (refit_error_rises, "Refit raised the reconstruction error of `fc1`"),
    (finetuning_hurts, "Fine-tuning ended below the network without training: 90.00 → 80.00 %."),
    (untrained, "neither trained nor given weights"),
    (diverged, "Stage `train` diverged: no finite loss at epoch 2"),
    (time_budget_exceeded, "exceeded: it allows 50.0 % of latency, 56.0 % remain"),
    (budget_exceeded, "exceeded: it allows 40.0 % of MACs, 50.0 % remain"),
]
REMARKS = [
    (little_faster, "2.00x fewer MACs, but 1.33x faster"),
    (finetuning_off, "Fine-tuning was off"),
    (at_initialisation, "no trained dense network to compare with. The same command with"),
    (at_initialisation, "`prune.refit` and `prune.recalibrate` had no effect"),
    (at_initialisation_from_weights, "`model.weights` were taken for the initialisation"),
    (budget_undershot, "allows 60.0 % of MACs, 50.0 % remain"),
    (nothing_removed, "Nothing was removed"),
    (narrow_heads, "Heads of `blocks.1.attn` became 8 dimensions wide before units"),
    (narrow_heads, "Heads of `blocks.0.attn` and 1 more became 16 dimensions wide"),
]


@pytest.mark.parametrize(("change", "claim"), WARNINGS)
def test_warning_appears_when_the_data_calls_for_it(workdir, change, claim):
    change(workdir)
    assert claim in texts(workdir, "warning")


@pytest.mark.parametrize(("change", "claim"), REMARKS)
def test_remark_appears_when_the_data_calls_for_it(workdir, change, claim):
    change(workdir)
    assert claim in texts(workdir, "remark")


def test_ordinary_run_gets_no_warning_and_no_needless_remark(workdir):
    lines = texts(workdir).splitlines()
    assert [line[:11] for line in lines] == ["Down to one", "One run, on"]


@pytest.mark.parametrize("latency_ms", [0.46, 0.54])
def test_time_within_a_tenth_of_its_budget_gets_no_note(workdir, latency_ms):
    time_budget_met(workdir, latency_ms)
    assert "budget" not in texts(workdir)


def test_pruning_at_initialisation_by_intent_gets_no_warning(workdir):
    workdir.at_initialisation()
    workdir.params["prune"] |= {"refit": False, "recalibrate": False}
    assert texts(workdir, "warning") == ""


def test_channel_on_merit_is_not_called_near_collapse(workdir):
    text = texts(workdir)
    assert "Down to one channel, on merit and not by the floor: `conv1`" in text
    assert "Near-collapse" not in text


def test_loss_of_accuracy_inside_the_noise_is_said_to_be(workdir):
    workdir.metrics["accuracy_finetuned"] = 0.899
    text = texts(workdir, "remark")
    assert "Fine-tuning ended below the network without training: 90.00 → 89.90 %, within" in text


def test_noise_is_not_claimed_without_a_count_of_test_images(workdir):
    del workdir.metrics["test_images"]
    text = texts(workdir)
    assert "One run, one seed" in text
    assert "noise" not in text


def test_noise_matches_the_binomial_standard_error():
    # 1.96 sqrt(0.9 x 0.1 / 10,000) = 0.588 points
    assert noise_points(0.9, 10_000) == pytest.approx(0.588, abs=0.001)


def test_perfect_accuracy_is_not_certain():
    assert noise_points(1.0, 100) > 1.0


def test_note_on_pruning_at_initialisation_says_only_what_holds(workdir):
    workdir.at_initialisation()
    workdir.params["prune"] |= {"refit": False, "recalibrate": False}
    text = texts(workdir)
    assert "train.when=before-pruning" in text
    for part in ("had no effect", "model.weights", "Fine-tuning"):
        assert part not in text


def test_late_training_that_does_harm_is_not_called_fine_tuning(workdir):
    workdir.at_initialisation()
    workdir.metrics["accuracy_finetuned"] = 0.01
    assert "Training ended below the network without training: 11.00 → 1.00 %." in texts(workdir)
