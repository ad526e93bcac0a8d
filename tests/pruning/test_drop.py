"""The smallest network whose metric falls by no more than is allowed."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from digits_network import all_digits, residual
from torch.utils.data import DataLoader, TensorDataset

import mipp
from mipp.errors import BudgetError, ConfigError, DataError
from mipp.pruning.drop import CLOSE, Goal, smallest_within
from mipp.pruning.drop_limit import drop_limit
from mipp.pruning.metric import Answers, Scored, score_of


@dataclass
class Sized:
    """Stands for a network: how large it is."""

    model: float


def tried(allowed, floor=0.0):
    """The share that is found where the metric is 100 times the square root of the share."""

    def cut(budget):
        if budget.value < floor:
            raise BudgetError("too small")
        return Sized(budget.value)

    goal = Goal(lambda share: Scored(100 * share**0.5), Scored(100.0), allowed, 90.0)
    found, search = smallest_within(cut, goal, "macs")
    return found.model, search


@pytest.mark.parametrize("allowed", [1.0, 5.0, 20.0, 60.0])
def test_share_is_the_least_that_is_good_enough(allowed):
    share, search = tried(allowed)
    least = (1 - allowed / 100) ** 2
    assert least <= share <= least + CLOSE
    assert {t.budget.value for t in search.trials if t.enough} == {
        t.budget.value for t in search.trials if t.budget.value >= least
    }
    assert len(search.trials) == 6


def test_share_stays_above_what_can_be_reached():
    share, search = tried(60.0, floor=0.4)
    assert 0.4 <= share <= 0.4 + CLOSE
    assert all(trial.budget.value >= 0.4 for trial in search.trials)


def test_no_smaller_network_that_is_good_enough_is_said_with_all_that_were_tried():
    with pytest.raises(
        BudgetError, match=r"within 0 of the dense(.|\n)*macs:0.5: 70.71 \(-29.29\)"
    ):
        tried(0.0)


def test_network_that_cannot_be_smaller_is_refused_with_the_reason():
    with pytest.raises(BudgetError, match=r"no smaller network can be made.*: too small"):
        tried(1.0, floor=1.0)


def test_heads_that_became_narrower_are_named_where_no_network_is_good_enough():
    goal = Goal(lambda _: Scored(0.0), Scored(100.0), 1.0, 90.0)
    with pytest.raises(BudgetError, match="'distill', or narrow_heads=1"):
        smallest_within(lambda budget: Sized(budget.value), goal, "macs", narrower=True)


# Margin: networks of a known fall, judged by inputs that are drawn


def steadily(share):
    return 0.02 * (1 / share - 1)


def a_little_too_much(share):
    """Nearly all networks fall by as little more than is allowed as makes each a chance to err."""
    return 0.002 if share > 0.9 else 0.0101


def scored(right):
    return Scored(100 * right.mean(), Answers(torch.zeros(len(right)), torch.from_numpy(right)))


def found_by(fall, inputs, confidence, seed):
    """The share that is found by so many inputs, None where none is; a point may be lost.

    Neighbours err alike: an input's luck is the same in seven of ten networks.
    """
    draw = np.random.default_rng(seed)
    right, luck = draw.random(inputs) < 0.9, draw.random(inputs)

    def score(share):
        own = np.where(draw.random(inputs) < 0.7, luck, draw.random(inputs))
        gained = 0.02 * (1 - share)
        kept = own < 1 - (fall(share) + gained) / 0.9
        answers = np.where(right, kept, own < gained / 0.1)
        return scored(answers)

    try:
        goal = Goal(score, scored(right), 1.0, confidence)
        return smallest_within(lambda budget: Sized(budget.value), goal, "macs")[0].model
    except BudgetError:
        return None


def falls_too_far(fall, inputs, confidence):
    """Share of 200 draws in which the network found falls by more than a point, and all shares."""
    shares = [found_by(fall, inputs, confidence, seed) for seed in range(200)]
    return np.mean([share is not None and fall(share) > 0.01 for share in shares]), shares


@pytest.mark.parametrize("fall", [steadily, a_little_too_much])
@pytest.mark.parametrize(("inputs", "confidence"), [(500, 90), (2000, 90), (2000, 60)])
def test_true_fall_is_more_than_allowed_no_more_often_than_stated(fall, inputs, confidence):
    assert falls_too_far(fall, inputs, confidence)[0] <= 1 - confidence / 100


def test_by_the_accuracies_alone_the_true_fall_is_often_more_than_allowed():
    assert falls_too_far(steadily, 500, 0)[0] > 0.3


def test_margin_narrows_with_more_inputs():
    assert steadily(2 / 3) == pytest.approx(0.01)
    few, many = (falls_too_far(steadily, inputs, 90)[1] for inputs in (500, 10_000))
    assert np.mean([share is None for share in few]) < 0.5
    assert 2 / 3 < np.mean(many) < 2 / 3 + 0.1
    assert np.mean(many) + 0.1 < np.mean([share for share in few if share])


def batches(start, stop):
    images, labels = all_digits()
    return list(zip(images[start:stop].split(64), labels[start:stop].split(64), strict=True))


def accuracy(model, labelled):
    with torch.no_grad():
        hits = [(model.eval()(x).argmax(1) == y) for x, y in labelled]
    return 100 * torch.cat(hits).double().mean().item()


CALIBRATION, VALIDATION = (0, 192), (256, 512)


def test_drop_on_the_validation_data_is_within_what_is_allowed():
    model, held = residual(), batches(*VALIDATION)
    found = mipp.prune(model, batches(*CALIBRATION), "drop:6", validation=held)
    search = found.report.search
    assert search.dense == pytest.approx(accuracy(model, held))
    chosen = min((t for t in search.trials if t.enough), key=lambda trial: trial.budget.value)
    assert chosen.value == pytest.approx(accuracy(found.model, held))
    assert search.dense - chosen.value < chosen.fallen <= 6
    change, most = chosen.value - search.dense, -chosen.fallen
    assert f"{chosen.value:.2f} ({change:+.2f}, at most {most:+.2f})" in str(found.report)
    shares = [t.budget.value for t in search.trials if t.enough]
    assert min(shares) - CLOSE < found.report.macs / found.report.macs_dense <= min(shares)
    too_little = [t for t in search.trials if not t.enough]
    assert any(t.budget.value >= min(shares) - 2 * CLOSE for t in too_little)
    assert f"{min(shares):g}" in str(found.report)


def test_what_is_small_and_by_which_metric_is_the_callers():
    model = residual()
    seen = []

    def units(network, loader):
        seen.append(loader)
        return float(network.stem.out_channels)

    held = batches(*VALIDATION)
    options = {"validation": held, "metric": units, "of": "params"}
    found = mipp.prune(model, batches(*CALIBRATION), "drop:4", **options)
    assert found.model.stem.out_channels == 8
    assert all(trial.budget.kind == "params" for trial in found.report.search.trials)
    assert all(loader is held for loader in seen)


def test_without_validation_a_fifth_of_the_calibration_data_judges(capsys):
    found = mipp.prune(residual(), batches(*CALIBRATION), "drop:20")
    assert found.report.search.dense - found.report.search.trials[-1].value < 100
    assert "38 calibration inputs are held out" in capsys.readouterr().err


@pytest.mark.slow  # two searches
def test_pruner_finds_the_same_as_prune():
    model, held = residual(), batches(*VALIDATION)
    pruner = mipp.Pruner(model, batches(*CALIBRATION))
    found = pruner.smallest(6, held, repair=mipp.Refit())
    again = mipp.prune(model, batches(*CALIBRATION), "drop:6", validation=held)
    assert found.report.search == again.report.search


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"budget": "drop:much"}, BudgetError, "how far the metric of labelled inputs may fall"),
        ({"budget": "drop:-1"}, BudgetError, r"number in \[0, inf\), got '-1'"),
        ({"budget": "macs:0.5", "of": "params"}, ConfigError, "of has no effect"),
        ({"budget": "macs:0.5", "validation": []}, ConfigError, "validation has no effect"),
        ({"budget": "drop:1", "of": "units"}, ConfigError, "of 'units' is unknown"),
        ({"budget": "drop:1", "metric": "f1"}, ConfigError, "metric: expected 'accuracy'"),
        ({"budget": "drop:1", "validation": []}, DataError, "holds no inputs"),
        ({"budget": "drop:1", "validation": iter([])}, ConfigError, "only once"),
        ({"budget": "drop:1", "validation": "here"}, DataError, "^validation cannot be used"),
        ({"budget": "drop:0.5"}, BudgetError, r"64 validation inputs (.|\n)*Expected 902 or more"),
        ({"budget": "drop:0"}, BudgetError, "Expected more than 0 points"),
        ({"budget": "drop:1", "drop_confidence": 100}, ConfigError, "below 100, got 100"),
        (
            {"budget": "macs:0.5", "drop_confidence": 95, "of": "macs"},
            ConfigError,
            "drop_confidence has no effect with budget",
        ),
        (
            {"budget": "drop:1", "drop_confidence": 95, "metric": lambda model, loader: 1.0},
            ConfigError,
            "drop_confidence has no effect with metric",
        ),
    ],
)
def test_wrong_arguments_are_refused(options, error, said):
    defaults = {} if "validation" in options or "of" in options else {"validation": batches(0, 64)}
    with pytest.raises(error, match=said):
        mipp.prune(residual(), batches(*CALIBRATION), **defaults | options)


def shuffled(generator=None):
    images, labels = all_digits()
    held = TensorDataset(images[slice(*VALIDATION)], labels[slice(*VALIDATION)])
    return DataLoader(held, 64, shuffle=True, generator=generator)


def test_shuffled_validation_data_pairs_the_answers_to_each_input():
    score = score_of("accuracy", shuffled())
    goal = Goal(score, score(residual()), 6.0, 90.0)
    assert goal.most_fallen(score(residual())) == pytest.approx(
        100 * drop_limit(0, 0, 256, 1 - 0.1 / 6)
    )


def test_validation_data_in_an_order_of_its_own_each_time_is_refused():
    score = score_of("accuracy", shuffled(torch.Generator()))
    goal = Goal(score, score(residual()), 6.0, 90.0)
    with pytest.raises(DataError, match=r"another order, each time(.|\n)*drop_confidence=0"):
        goal.most_fallen(score(residual()))


@pytest.mark.parametrize("drop", [-1.0, "3", True])
def test_a_drop_that_is_no_number_from_0_on_is_refused(drop):
    pruner = mipp.Pruner(residual(), batches(*CALIBRATION))
    with pytest.raises(ConfigError, match=f"drop: expected a number of at least 0, got {drop!r}"):
        pruner.smallest(drop, batches(*VALIDATION))


def test_unlabelled_data_judges_nothing():
    inputs = [x for x, _ in batches(*CALIBRATION)]
    with pytest.raises(DataError, match="needs labels"):
        mipp.prune(residual(), inputs, "drop:1")
