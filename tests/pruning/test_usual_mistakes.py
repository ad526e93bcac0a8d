"""Six mistakes of a first day: each is told in a line with its mend, and the mend is tried."""

import copy
import re

import pytest
import torch
from torch import nn

import mipp
from mipp.errors import BudgetError, DataError

X = torch.randn(48, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(48) % 5


def convolutions():
    torch.manual_seed(1)
    pooled = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)
    first = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()
    return nn.Sequential(*first, nn.Conv2d(8, 6, 3), nn.ReLU(), *pooled)


def of_one_size():
    """Takes images of 8 pixels a side alone."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))


def grey():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))


def perceptron():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3 * 64, 12), nn.ReLU(), nn.Linear(12, 5))


DICTS = [{"image": X, "label": Y}]
REFUSED = {
    "dicts": (convolutions, DICTS, "keys that forward takes"),
    "dicts of Hugging Face": (convolutions, [{"pixel_values": X, "labels": Y}], "keys that"),
    "grey images": (convolutions, [(X[:, :1], Y)], "3 channels"),
    "coloured images": (grey, [X], "1 channel"),
    "channels last": (convolutions, [X.movedim(1, -1)], "channels before rows and columns"),
    "images for a perceptron": (perceptron, [(X, Y)], "rows of features, got images"),
    "images of another size": (of_one_size, [X.repeat(1, 1, 3, 3)], "images of 8 pixels a side"),
    "whole numbers": (convolutions, [(X * 50).byte()], "torch.float32, got whole numbers"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_loader_is_refused_with_a_line_that_mends_it(case):
    build, loader, expected = REFUSED[case]
    with pytest.raises(DataError, match=re.escape(f"Expected {expected}")) as refused:
        mipp.prune(build(), loader)
    line = str(refused.value).partition("; write: ")[2]
    mended = eval(line, {"loader": loader, "torch": torch})
    assert mipp.prune(build(), mended, "ratio:0.5").report.macs_dense > 0


def test_shape_that_nothing_mends_is_told_as_forward_said_it():
    with pytest.raises(mipp.MippError, match="Expected inputs that its forward takes") as refused:
        mipp.prune(perceptron(), torch.randn(16, 100))
    assert "(16, 100)" in str(refused.value)


@pytest.mark.parametrize("budget", ["0.5", 0.5])
def test_bare_number_is_refused_with_the_budgets_that_it_may_mean(budget):
    with pytest.raises(BudgetError, match=r"write 'macs:0\.5' to keep that share") as refused:
        mipp.prune(convolutions(), X, budget=budget)
    for mended in re.findall(r"'(\w+:0\.5)' to", str(refused.value)):
        assert mipp.prune(convolutions(), X, budget=mended).report.groups


@pytest.mark.parametrize("budget", [50, "half", None])
def test_what_is_no_share_is_refused_with_all_kinds(budget):
    with pytest.raises(BudgetError, match="choose from confidence, drop, latency, macs"):
        mipp.prune(convolutions(), X, budget=budget)


def test_train_mode_simply_works_and_is_left():
    model = convolutions().train()
    before = copy.deepcopy(model.state_dict())
    pruned = mipp.prune(model, [X], "macs:0.5")
    kept = mipp.prune(convolutions().eval(), [X], "macs:0.5").selection.kept
    assert model.training
    assert pruned.model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert {name: list(units) for name, units in pruned.selection.kept.items()} == {
        name: list(units) for name, units in kept.items()
    }


@pytest.mark.parametrize(("count", "said"), [(1, "1 input"), (5, "5 inputs")])
def test_too_few_images_are_told_in_the_report(count, said):
    report = str(mipp.prune(convolutions(), [X[:count]]).report)
    assert f"measured on {said}, too few to tell units apart: give some hundred" in report


def test_no_images_are_refused():
    with pytest.raises(DataError, match="it may have been used up: pass a loader"):
        mipp.prune(convolutions(), iter([]))


def test_images_without_values_are_refused():
    with pytest.raises(DataError, match="Expected tensors with values, got meta ones"):
        mipp.prune(convolutions(), [X.to("meta")])


@pytest.mark.gpu
@pytest.mark.parametrize(("of_model", "of_images"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_images_on_another_device_simply_work(of_model, of_images):
    model = convolutions().to(of_model)
    pruned = mipp.prune(model, [(X.to(of_images), Y.to(of_images))], "macs:0.5")
    assert {weight.device.type for weight in pruned.model.parameters()} == {of_model}
    assert pruned.report.macs <= 0.5 * pruned.report.macs_dense
