"""L1 on the scales of batch norms while the dense network is trained."""

import pytest
import torch
from torch import nn

from mipp.cli import main
from mipp.config import OptimConfig
from mipp.errors import ConfigError
from mipp.training import Slimming, train
from tests.images_in_memory import InMemory

CPU = torch.device("cpu")


def network():
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 3)
    return nn.Sequential(*layers)


def images(number=48):
    torch.manual_seed(0)
    return InMemory(torch.randn(number, 1, 6, 6), torch.arange(number) % 3)


def test_slope_of_the_penalty_is_the_sign_of_each_scale():
    model = network()
    model[1].weight.data.copy_(torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0, -0.1]))
    Slimming(0.25, model).penalty(model).backward()
    assert model[1].weight.grad.tolist() == [0.25, -0.25, 0.25, 0, 0.25, -0.25]
    assert model[0].weight.grad is None


def test_network_without_batch_norms_is_refused():
    with pytest.raises(ConfigError, match=r"(?s)train.slimming=0.0001 .*Linear.*Expected 0.*leave"):
        Slimming(1e-4, nn.Linear(2, 2))


def test_scales_end_smaller_the_stronger_it_is():
    config = OptimConfig(epochs=4, batch_size=16, lr=0.05, weight_decay=0, momentum=0)
    sums = []
    for strength in (0.0, 0.01, 0.1):
        model = network()
        rule = Slimming(strength, model)
        train(model, images(), images(0), config, seed=0, device=CPU, regulariser=rule)
        sums.append(float(model[1].weight.detach().abs().sum()))
    assert sums[0] > sums[1] > sums[2]
    steps = 12 * 0.05 * 0.5  # twelve steps at about half of the highest rate
    assert sums[0] - sums[2] == pytest.approx(6 * 0.1 * steps, rel=0.3)


def test_command_refuses_it_for_a_network_that_has_none(tmp_path, capsys):
    given = (
        "model.name=lenet5",
        "train.epochs=1",
        "data.limit=64",
        "data.calibration=64",
        "train.slimming=1e-4",
    )
    overrides = [part for text in given for part in ("--set", text)]
    assert main(["run", "--workdir", str(tmp_path / "work"), "--quiet", *overrides]) == 2
    assert "train.slimming" in capsys.readouterr().err
