"""A repair is never worse than none, by the outputs of the whole network."""

import copy

import pytest
import torch
from torch import nn

import mipp
from mipp.pruning import repair


def network(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.Flatten()
    )
    return model.double().eval(), torch.randn(64, 3, 8, 8).double()


def error(model, dense, images):
    """Squared error of outputs as a share of their variance."""
    with torch.no_grad():
        wanted = dense(images).double()
        return float((model(images).double() - wanted).square().mean() / wanted.var(correction=0))


def spoilt(model, *_, **__):
    """A refit that goes wrong, in the statistics of norms too."""
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.add_(1)
    return [repair.LayerFit("3", 0.5, 0.1)]


def test_refit_that_makes_outputs_worse_is_undone(monkeypatch, seed):
    dense, images = network(seed)
    bare = mipp.prune(dense, [images], "ratio:0.5", repair="none")
    monkeypatch.setattr(repair, "refit", spoilt)
    found = mipp.prune(dense, [images], "ratio:0.5")
    state = bare.model.state_dict()
    assert all(torch.equal(state[key], now) for key, now in found.model.state_dict().items())
    wrong = copy.deepcopy(bare.model)
    spoilt(wrong)
    errors = [f"{error(model, dense, images[:8]):.3g}" for model in (wrong, bare.model)]
    assert (
        "by {} of their variance on 8 calibration inputs, without by {}".format(*errors)
        in (found.report.unfitted["3"])
    )
    assert "3: its weights were left as they are" in str(found.report)


def test_refit_that_helps_is_kept(seed):
    dense, images = network(seed)
    bare, found = (
        mipp.prune(dense, [images], "ratio:0.5", repair=way) for way in ("none", "refit")
    )
    assert error(found.model, dense, images) < error(bare.model, dense, images)
    assert not found.report.unfitted


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_refit_without_finite_outputs_is_undone(monkeypatch, factor):
    dense, images = network(0)

    def broken(model, *_, **__):
        model[3].weight.data.mul_(factor)
        return [repair.LayerFit("3", 0.5, 0.1)]

    monkeypatch.setattr(repair, "refit", broken)
    found = mipp.prune(dense, [images], "ratio:0.5")
    assert found.model(images).isfinite().all()
    assert list(found.report.unfitted) == ["3"]


NORMS = {
    "without statistics": lambda: nn.BatchNorm2d(8, track_running_stats=False),
    "without factors": lambda: nn.BatchNorm2d(8, affine=False),
    "with neither": lambda: nn.BatchNorm2d(8, affine=False, track_running_stats=False),
    "in full precision": lambda: nn.BatchNorm2d(8),
}


@pytest.mark.parametrize("way", ["refit", "recalibrate"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NORMS)
def test_odd_norms_and_types_are_repaired_and_keep_their_types(name, dtype, way):
    torch.manual_seed(0)
    dense = nn.Sequential(
        nn.Conv2d(3, 8, 3), NORMS[name](), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.Flatten()
    )
    images = torch.randn(64, 3, 8, 8).to(dtype)
    dense.to(dtype)[1].float()
    found, bare = (mipp.prune(dense.eval(), [images], "ratio:0.5", repair=r) for r in (way, "none"))
    if way == "refit":
        assert error(found.model, dense, images) <= error(bare.model, dense, images)
    types = {name: tensor.dtype for name, tensor in dense.state_dict().items()}
    assert {name: tensor.dtype for name, tensor in found.model.state_dict().items()} == types
    assert found.model.train()(images).isfinite().all()
