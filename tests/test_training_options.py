"""Gradients that are added up, bounded or laid out otherwise, and a learning rate that rises."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mipp.config import OptimConfig
from mipp.training import train
from mipp.training.schedule import lr_at
from tests.images_in_memory import InMemory, brighter_corners

CPU = torch.device("cpu")
PLAIN = {"epochs": 1, "schedule": "constant", "momentum": 0.0, "weight_decay": 0.0, "lr": 0.1}


def blobs(count: int = 48) -> InMemory:
    return brighter_corners(count, 6)


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(),
            nn.Linear(16, 3),
        )  # fmt: skip


def trained(images: InMemory, checkpoint: Path | None = None, **changes: object) -> list[Tensor]:
    model = network().double()
    images = InMemory(images.images.double(), images.labels)
    config = OptimConfig.model_validate(PLAIN | changes)
    train(model, images, blobs(0), config, seed=0, device=CPU, checkpoint=checkpoint)
    return list(model.parameters())


def close(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.allclose(a, b, atol=1e-12, rtol=0) for a, b in zip(some, others, strict=True))


@pytest.mark.parametrize("count", [48, 44], ids=["whole", "with a rest"])
def test_batches_that_are_added_up_are_one_larger_batch(count: int) -> None:
    images = blobs(count)
    large = trained(images, batch_size=16)
    small = trained(images, batch_size=4, accumulate=4)
    assert close(small, large)
    assert not close(small, trained(images, batch_size=4))


def test_a_step_is_no_longer_than_the_gradient_may_be() -> None:
    images, before = blobs(), list(network().double().parameters())
    free, bound = (trained(images, batch_size=48, clip=clip) for clip in (None, 0.01))
    flat = [
        torch.cat([(a - b).flatten() for a, b in zip(p, before, strict=True)])
        for p in (free, bound)
    ]
    assert flat[0].norm() > 0.1 * 0.01
    assert flat[1].norm().item() == pytest.approx(0.1 * 0.01, rel=1e-3)  # lr times the bound
    assert torch.cosine_similarity(*flat, dim=0).item() == pytest.approx(1)


def test_channels_last_changes_the_layout_alone() -> None:
    images = blobs()
    found = trained(images, channels_last=True, epochs=2)
    assert close(found, trained(images, epochs=2))
    assert all(parameter.is_contiguous() for parameter in found)


def test_weights_lie_channels_last_meanwhile() -> None:
    seen = []
    model = network()
    model[0].register_forward_pre_hook(
        lambda layer, inputs: seen.append(
            [t.is_contiguous(memory_format=torch.channels_last) for t in (inputs[0], layer.weight)]
        )
    )
    config = OptimConfig.model_validate(PLAIN | {"channels_last": True})
    train(model, blobs(), blobs(0), config, seed=0, device=CPU)
    assert seen
    assert all(all(both) for both in seen)


def test_the_learning_rate_rises_and_then_follows_its_schedule() -> None:
    for schedule in ("constant", "cosine", "step"):
        config = OptimConfig(schedule=schedule, warmup=0.2, lr=0.5, milestones=(0.6,))
        rates = [lr_at(config, step, 50) for step in range(50)]
        assert rates[:10] == pytest.approx([0.5 * (step + 1) / 10 for step in range(10)])
        after = {"constant": 0.5, "cosine": 0.25, "step": 0.5}[schedule]
        assert lr_at(config, 30 - (schedule == "step"), 50) == pytest.approx(after)
    assert lr_at(OptimConfig(schedule="cosine", warmup=0.2), 50, 50) == pytest.approx(0)


def test_a_killed_run_with_all_of_them_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    class Kill(Exception):
        pass

    options = PLAIN | {
        "epochs": 4, "accumulate": 2, "clip": 0.1, "channels_last": True, "warmup": 0.5,
        "momentum": 0.9, "batch_size": 8, "ema": 0.9,
    }  # fmt: skip
    config, images = OptimConfig.model_validate(options), blobs()
    whole, killed = network(), network()
    train(whole, images, blobs(0), config, seed=0, device=CPU)

    def stop(record: object) -> None:
        raise Kill

    file = tmp_path / "resume"
    with pytest.raises(Kill):
        train(killed, images, blobs(0), config, seed=0, device=CPU, checkpoint=file, on_epoch=stop)
    again = copy.deepcopy(network())
    train(again, images, blobs(0), config, seed=0, device=CPU, checkpoint=file)
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


class Growing:
    """An L2 penalty that grows by as much with every step, and weights that are cut off at 0.2."""

    def __init__(self) -> None:
        self.strength = 0.0

    def penalty(self, model: nn.Module) -> Tensor:
        squares = [parameter.square().sum() for parameter in model.parameters()]
        return self.strength * torch.stack(squares).sum()

    def after_step(self, model: nn.Module) -> None:
        self.strength += 0.05
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.clamp_(-0.2, 0.2)

    def state_dict(self) -> dict[str, float]:
        return {"strength": self.strength}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.strength = state["strength"]


def test_a_regulariser_is_added_to_the_loss_and_follows_every_step() -> None:
    images, regulariser = blobs(), Growing()
    plain, model = network(), network()
    config = OptimConfig.model_validate(PLAIN | {"batch_size": 48, "epochs": 2})
    first, second = train(
        model, images, blobs(0), config, seed=0, device=CPU, regulariser=regulariser
    )
    unbound = train(plain, images, blobs(0), config, seed=0, device=CPU)
    assert regulariser.strength == pytest.approx(0.1)  # a step an epoch
    assert first.train_loss == unbound[0].train_loss  # its strength was 0 until then
    assert max(parameter.abs().max().item() for parameter in model.parameters()) <= 0.2
    assert second.train_loss > 0.05 * sum(p.square().sum().item() for p in model.parameters())


def test_a_killed_run_goes_on_with_the_state_of_its_regulariser(tmp_path: Path) -> None:
    config, images = OptimConfig.model_validate(PLAIN | {"batch_size": 16, "epochs": 4}), blobs()
    whole, killed, file = network(), network(), tmp_path / "resume"
    train(whole, images, blobs(0), config, seed=0, device=CPU, regulariser=Growing())

    def stop(record: object) -> None:
        raise InterruptedError

    again = {"seed": 0, "device": CPU, "checkpoint": file}
    with pytest.raises(InterruptedError):
        train(killed, images, blobs(0), config, regulariser=Growing(), on_epoch=stop, **again)  # type: ignore[arg-type]
    resumed = network()
    train(resumed, images, blobs(0), config, regulariser=Growing(), **again)  # type: ignore[arg-type]
    assert all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True)
    )
