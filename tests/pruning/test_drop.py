"""The smallest network whose metric falls by no more than is allowed."""

from dataclasses import dataclass

import pytest
import torch
from digits_network import all_digits, residual

import mipp
from mipp.errors import BudgetError, ConfigError, DataError
from mipp.pruning.drop import CLOSE, smallest_within


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

    found, search = smallest_within(cut, lambda share: 100 * share**0.5, 100.0, allowed, "macs")
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
    found = mipp.prune(model, batches(*CALIBRATION), "drop:3", validation=held)
    search = found.report.search
    assert search.dense == pytest.approx(accuracy(model, held))
    assert search.dense - accuracy(found.model, held) <= 3
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


def test_pruner_finds_the_same_as_prune():
    model, held = residual(), batches(*VALIDATION)
    pruner = mipp.Pruner(model, batches(*CALIBRATION))
    found = pruner.smallest(3, held, repair=mipp.Refit())
    again = mipp.prune(model, batches(*CALIBRATION), "drop:3", validation=held)
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
    ],
)
def test_wrong_arguments_are_refused(options, error, said):
    defaults = {} if "validation" in options or "of" in options else {"validation": batches(0, 64)}
    with pytest.raises(error, match=said):
        mipp.prune(residual(), batches(*CALIBRATION), **defaults | options)


def test_unlabelled_data_judges_nothing():
    inputs = [x for x, _ in batches(*CALIBRATION)]
    with pytest.raises(DataError, match="needs labels"):
        mipp.prune(residual(), inputs, "drop:1")
