"""Optimizers by name, averaged weights, and a network that torch compiles."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from torch import Tensor, nn

from mipp.config import OptimConfig
from mipp.errors import ConfigError
from mipp.training import train
from mipp.training.optimizers import TORCH, build_optimizer
from tests.test_training_options import CPU, PLAIN, Growing, blobs, network

NAMES = (*TORCH, "timm/lamb", "timm/nadamw", "timm/sgdw")


class Halving(torch.optim.Optimizer):
    """Of ours: halves every weight, whatever its gradient is."""

    def __init__(self, params, lr):  # type: ignore[no-untyped-def]
        super().__init__(params, {"lr": lr})

    def step(self, closure=None):  # type: ignore[no-untyped-def]
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.mul_(0.5)


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_lowers_the_loss(name: str) -> None:
    lr = 1.0 if name in ("adadelta", "adafactor") else 0.01
    config = OptimConfig(optimizer=name, epochs=6, batch_size=8, lr=lr, schedule="constant")
    history = train(network(), blobs(), blobs(0), config, seed=0, device=CPU)
    assert history[-1].train_loss < history[0].train_loss


def test_momentum_is_beta_one_where_there_is_no_momentum() -> None:
    def groups(name: str) -> dict[str, object]:
        return build_optimizer(network(), OptimConfig(optimizer=name, momentum=0.7)).param_groups[0]

    assert groups("rmsprop")["momentum"] == 0.7
    for name in ("adam", "nadam", "timm/lamb"):
        assert groups(name)["betas"] == (0.7, 0.999)


def test_an_optimizer_of_yours_is_taken_by_its_address() -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    config = OptimConfig(optimizer="tests.test_optimizers:Halving", epochs=1, batch_size=48)
    train(model, blobs(), blobs(0), config, seed=0, device=CPU)
    assert all(torch.equal(model.state_dict()[name], 0.5 * x) for name, x in before.items())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizer": "adamww"}, r"did you mean adam.*choose from"),
        ({"optimizer": "timm/lambda"}, r"unknown to timm .*did you mean .*lamb"),
        ({"optimizer": "lbfgs"}, "is unknown"),
        ({"optimizer": "adagrad", "momentum": 0.5}, r"no effect on the optimizer adagrad"),
    ],
)
def test_optimizers_that_cannot_be_had_are_refused(options: dict[str, object], words: str) -> None:
    config = OptimConfig.model_validate({"epochs": 1} | options)
    with pytest.raises(ConfigError, match=words):
        train(network(), blobs(), blobs(0), config, seed=0, device=CPU)


def test_timm_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install 'timm"):
        build_optimizer(network(), OptimConfig(optimizer="timm/lamb"))


class Noting(Growing):
    """Notes the weights after every step, and changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[list[Tensor]] = []

    def after_step(self, model: nn.Module) -> None:
        self.weights.append([parameter.detach().clone() for parameter in model.parameters()])


def test_averaged_weights_follow_their_recursion_from_the_first_step_on() -> None:
    model, noting = network().double(), Noting()
    images = blobs()
    images.images = images.images.double()
    config = OptimConfig.model_validate(PLAIN | {"batch_size": 16, "epochs": 2, "ema": 0.8})
    record = train(model, images, images, config, seed=0, device=CPU, regulariser=noting)[-1]
    first, *later = noting.weights
    assert len(later) == 5
    for step in later:
        first = [0.8 * old + 0.2 * new for old, new in zip(first, step, strict=True)]
    for made, wanted in zip(model.parameters(), first, strict=True):
        torch.testing.assert_close(made, wanted, rtol=0, atol=1e-12)
    loss = nn.functional.cross_entropy(model(images.images), images.labels)
    assert record.validation_loss == pytest.approx(loss.item())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, about itself
def test_a_compiled_network_trains_as_it_does_uncompiled() -> None:
    plain, compiled = network().double(), network().double()
    images = blobs(40)
    images.images = images.images.double()
    for model, compile in ((plain, False), (compiled, True)):
        config = OptimConfig.model_validate(PLAIN | {"batch_size": 16, "compile": compile})
        train(model, images, images, config, seed=0, device=CPU)
    for made, wanted in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(made, wanted, rtol=0, atol=1e-12)
    assert compiled.state_dict().keys() == network().state_dict().keys()
