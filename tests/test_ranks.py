"""Two processes train one network: as one does, from wherever they were stopped, or not at all.

In float64, so that what differs is no rounding: that is 1e-7 of a loss in float32.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mipp.config import OptimConfig
from mipp.errors import ConfigError, DeviceError, LostRankError
from mipp.process.ranks import Ranks, loopback
from mipp.stages.endings import Ending, raise_first
from mipp.stages.launch_on_ray import require_room
from mipp.training import EpochRecord, Teacher, require_undivided, resume, train
from mipp.training.epoch import Part, share_of
from tests.images_in_memory import InMemory, brighter_corners
from tests.two_processes import by_two

pytestmark = pytest.mark.xdist_group("ranks")  # one server that forks
CPU = torch.device("cpu")
PLAIN = {"epochs": 3, "batch_size": 8, "lr": 0.05}
CASES: tuple[tuple[dict[str, object], str], ...] = (
    ({}, "ddp"),
    ({"accumulate": 2, "clip": 0.1, "ema": 0.5}, "ddp"),
    ({"accumulate": 2, "clip": 0.1}, "fsdp"),
    (
        {"optimizer": "adamw", "label_smoothing": 0.1, "warmup": 0.2, "schedule": "cosine"},
        "ddp",
    ),
    ({"optimizer": "adamw", "patience": 1, "lr": 2.0}, "fsdp"),
)


class Kill(Exception):
    """What ends a run from outside."""


def blobs(count: int = 43) -> InMemory:
    """Batches of 8 leave a last one of 3, which two processes cannot share out."""
    return brighter_corners(count, 6, dtype=torch.float64)


def network(norm: bool = False) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4) if norm else nn.GroupNorm(2, 4), nn.ReLU(),
            nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3),
        )  # fmt: skip


class HalfRead(nn.Module):
    """Has a head that nobody reads, as some networks of the Hugging Face have."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.unread = network(), nn.Linear(1, 1)
        nn.init.zeros_(self.unread.weight)
        nn.init.zeros_(self.unread.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


Trained = tuple[tuple[EpochRecord, ...], dict[str, Tensor]]


def trained(
    options: Mapping[str, object],
    strategy: Any = "ddp",
    kind: str = "plain",
    checkpoint: Path | None = None,
    stop: int = 0,
) -> Trained:
    """Epochs and weights, on whichever ranks this runs; `stop` ends it after that epoch."""
    made = {"plain": network, "batch-norm": lambda: network(norm=True), "half-read": HalfRead}
    model = made[kind]().double()
    config = OptimConfig.model_validate(PLAIN | dict(options))
    teacher = Teacher(network().double(), 0.5, 2.0) if kind == "plain" else None
    resume.WORK_PER_SAVE = 0.0

    def on_epoch(record: EpochRecord) -> None:
        if record.epoch == stop:
            raise Kill

    try:
        history = train(
            model, blobs(), blobs(11), config, seed=0, device=CPU, checkpoint=checkpoint,
            on_epoch=on_epoch, teacher=teacher, strategy=strategy,
        )  # fmt: skip
    except Kill:
        return (), {}
    return history, dict(model.state_dict())


def numbers(history: tuple[EpochRecord, ...]) -> list[float | None]:
    return [x for r in history for x in (r.train_loss, r.train_accuracy, r.validation_loss,
                                         r.validation_accuracy, r.lr)]  # fmt: skip


def all_cases() -> list[Trained]:
    return [trained(options, strategy) for options, strategy in CASES]


def test_two_processes_train_as_one_does() -> None:
    for made in by_two(all_cases):
        for (options, _), (history, weights) in zip(CASES, made, strict=True):
            alone, expected = trained(options)
            assert numbers(history) == pytest.approx(numbers(alone), rel=1e-9)
            assert all(torch.allclose(weights[name], expected[name], atol=1e-9) for name in weights)


def stopped(strategy: str, folder: Path) -> list[Trained]:
    """Undisturbed, and gone on with after each epoch."""
    made = [trained({}, strategy)]
    for stop in (1, 2):
        file = folder / f"{stop}.resume"
        trained({}, strategy, checkpoint=file, stop=stop)
        Ranks.here().told("rank 0 has saved")
        made += [trained({}, strategy, checkpoint=file)] if file.exists() else []
    return made


@pytest.mark.parametrize("strategy", ["ddp", pytest.param("fsdp", marks=pytest.mark.slow)])
def test_stopped_after_any_epoch_they_end_as_if_undisturbed(strategy: str, tmp_path: Path) -> None:
    for (history, weights), *gone_on in by_two(stopped, strategy, tmp_path):
        assert len(gone_on) == 2
        for other, made in gone_on:
            assert other == history
            assert all(torch.equal(made[name], weights[name]) for name in weights)
    assert list(tmp_path.iterdir()) == []


def test_statistics_of_batch_norms_become_those_of_both() -> None:
    (_, first), (_, second) = by_two(trained, {"epochs": 1}, "ddp", "batch-norm")
    assert all(torch.equal(first[name], second[name]) for name in first)
    alone = trained({"epochs": 1}, "ddp", "batch-norm")[1]
    assert torch.allclose(first["1.running_mean"], alone["1.running_mean"], atol=0.05)
    assert torch.allclose(first["1.running_var"], alone["1.running_var"], rtol=0.2)


def test_nobody_waits_for_a_parameter_without_gradient() -> None:
    alone, weights = trained({}, "ddp", "half-read")
    for history, made in by_two(trained, {}, "ddp", "half-read"):
        assert numbers(history) == pytest.approx(numbers(alone), rel=1e-9)
        assert made["unread.weight"] == weights["unread.weight"] == 0


def disagreeing(about: str) -> None:
    """Train something else on rank 1 than on rank 0."""
    other = Ranks.here().rank == 1
    model, images = network().double(), blobs()
    if other and about == "the weights":
        model[0].bias.data += 1
    if other and about == "the data":
        images.labels[0] = 1
    lr = 0.1 if other and about == "the parameters" else 0.2
    config = OptimConfig(epochs=1, lr=lr)
    train(model, images, blobs(0), config, seed=0, device=CPU)


@pytest.mark.parametrize("about", ["the weights", "the data", "the parameters"])
def test_processes_that_disagree_are_refused(about: str) -> None:
    for error in by_two(disagreeing, about):
        assert isinstance(error, ConfigError)
        assert f"disagree about {about}" in str(error)
        assert "on rank 1" in str(error)


@pytest.mark.parametrize(
    ("options", "regularised", "what"),
    [
        ({"ema": 0.9}, False, "ema"),
        ({"precision": "float16"}, False, "precision=float16"),
        ({}, True, "a regulariser"),
    ],
)
def test_what_reads_whole_weights_is_refused_of_divided_ones(
    options: dict[str, object], regularised: bool, what: str
) -> None:
    config = OptimConfig.model_validate(PLAIN | options)
    with pytest.raises(ConfigError, match=rf"^{what} cannot be had .*fsdp(.|\n)*strategy=ddp"):
        require_undivided(config, regularised=regularised)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["lo", "eth0"], {"GLOO_SOCKET_IFNAME": "lo"}),
        (["en0", "lo0"], {"GLOO_SOCKET_IFNAME": "lo0"}),
        (["Ethernet"], {}),
    ],
)
def test_gloo_is_told_the_loopback_of_this_system(
    names: list[str], told: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.if_nameindex", lambda: [*enumerate(names, 1)])
    assert loopback() == told


def test_a_cluster_too_small_for_all_is_refused() -> None:
    there = {"CPU": 8.0, "GPU": 3.0}
    require_room({"CPU": 2.0, "GPU": 1.0}, 3, there)
    with pytest.raises(DeviceError, match=r"devices=4 .*\n.* 4 GPUs, 1 for each .*, got 3; lower"):
        require_room({"CPU": 2.0, "GPU": 1.0}, 4, there)


def test_a_death_is_told_before_the_errors_that_follow_from_it() -> None:
    lost = Ending(1, 77, "died (its machine is gone)", {})
    after = Ending(0, 76, "failed", {"traceback": "RuntimeError: connection closed"})
    raise_first([Ending(0, 76, "", {}), Ending(1, 77, "", {})], "train")
    with pytest.raises(LostRankError, match=r"^rank 1 \(process 77\) of stage train died \(its"):
        raise_first([after, lost], "train")
    told = Ending(0, 76, "failed", {"error": "ConfigError", "text": "data.name is wrong."})
    with pytest.raises(ConfigError, match=r"^data.name is wrong.$"):
        raise_first([after, told], "train")
    with pytest.raises(RuntimeError, match=r"rank 0 of stage train failed:\nRuntimeError"):
        raise_first([after], "train")


@pytest.mark.parametrize(("count", "size"), [(7, 2), (8, 2), (9, 4), (64, 3), (3, 2), (5, 4)])
def test_parts_of_a_batch_have_its_mean_between_them(count: int, size: int) -> None:
    values = torch.rand(count, dtype=torch.float64)
    every = [Ranks(rank, size) for rank in range(size)]
    own = [values[share_of(count, ranks)] for ranks in every]
    parts = [Part(x, x, count, ranks) for x, ranks in zip(own, every, strict=True)]
    means = [part.weight * part.images.mean() for part in parts]
    assert torch.stack(means).mean().item() == pytest.approx(values.mean().item())
    assert all(len(part.images) >= 2 for part in parts)  # for batch norms
    if count >= 2 * size:
        apart = [part.images.tolist() for part in parts]
        assert list(itertools.chain(*apart)) == values.tolist()
