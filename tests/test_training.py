"""Training follows its formulas, repeats itself bit for bit, and survives being killed."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from mipp.config import OptimConfig, load_params
from mipp.errors import CheckpointError, ConfigError, DataError, TrainingError
from mipp.stages import finetune
from mipp.stages.files import write_json
from mipp.stages.finetune import require_start, starting_point
from mipp.training import EpochRecord, Teacher, loop, resume, train
from mipp.training.optimizers import build_optimizer
from mipp.training.schedule import lr_at
from tests.images_in_memory import InMemory, brighter_corners

CPU = torch.device("cpu")


class Kill(Exception):
    """What ends a run from outside."""


def blobs(count: int, seed: int = 0) -> InMemory:
    return brighter_corners(count, 4, seed=seed)


def network() -> nn.Sequential:
    """Small, with everything that has a state: batch norm statistics and dropout."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2),
            nn.Linear(16, 3),
        )  # fmt: skip


def run(
    config: OptimConfig,
    *,
    model: nn.Module | None = None,
    seed: int = 0,
    checkpoint: Path | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> tuple[dict[str, Tensor], tuple[EpochRecord, ...]]:
    model = model or network()
    history = train(
        model, blobs(50), blobs(20, seed=1), config,
        seed=seed, device=CPU, checkpoint=checkpoint, on_epoch=on_epoch,
    )  # fmt: skip
    return model.state_dict(), history


def equal(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def kill_after(epoch: int) -> Callable[[EpochRecord], None]:
    def on_epoch(record: EpochRecord) -> None:
        if record.epoch == epoch:
            raise Kill

    return on_epoch


@pytest.fixture
def save_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "WORK_PER_SAVE", 0.0)


# Learning rates


def test_onecycle_equals_that_of_torch() -> None:
    for total in (2, 7, 100):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
        theirs = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=0.3, total_steps=total, cycle_momentum=False
        )
        config = OptimConfig(schedule="onecycle", lr=0.3)
        for step in range(total):
            assert lr_at(config, step, total) == pytest.approx(theirs.get_last_lr()[0])
            optimizer.step()
            theirs.step()


def test_cosine_follows_its_formula() -> None:
    config = OptimConfig(schedule="cosine", lr=0.4)
    assert [lr_at(config, step, 4) for step in range(4)] == pytest.approx(
        [0.4, 0.2 * (1 + math.sqrt(0.5)), 0.2, 0.2 * (1 - math.sqrt(0.5))]
    )


def test_step_divides_by_ten_at_each_milestone() -> None:
    config = OptimConfig(schedule="step", lr=1.0, milestones=(0.5, 0.75))
    rates = [lr_at(config, step, 8) for step in range(8)]
    assert rates == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_constant_stays_constant() -> None:
    assert {lr_at(OptimConfig(schedule="constant", lr=0.2), step, 5) for step in range(5)} == {0.2}


def test_schedule_moves_with_every_batch() -> None:
    config = OptimConfig(epochs=2, batch_size=10, schedule="cosine", lr=0.4)
    _, history = run(config)
    # 50 images make 5 batches an epoch; the record holds the rate of the last, of 10 in all.
    expected = [0.2 * (1 + math.cos(math.pi * step / 10)) for step in (4, 9)]
    assert [record.lr for record in history] == pytest.approx(expected)


# Steps


def softmax_gradient(weight: np.ndarray, image: np.ndarray, label: int, smooth: float):  # type: ignore[no-untyped-def]
    logits = weight @ image
    shares = np.exp(logits) / np.exp(logits).sum()
    target = (1 - smooth) * np.eye(len(weight))[label] + smooth / len(weight)
    return np.outer(shares - target, image)


@pytest.mark.parametrize("smooth", [0.0, 0.2])
def test_sgd_matches_a_numpy_twin(smooth: float) -> None:
    config = OptimConfig(
        epochs=3, batch_size=1, optimizer="sgd", schedule="constant",
        lr=0.1, momentum=0.9, weight_decay=0.01, label_smoothing=smooth,
    )  # fmt: skip
    model = nn.Linear(2, 3, bias=False).double()
    weight = model.weight.detach().numpy().copy()
    image = np.array([1.0, -2.0])
    split = InMemory(torch.from_numpy(image)[None], torch.tensor([1]))
    velocity = np.zeros_like(weight)
    for _ in range(3):
        gradient = softmax_gradient(weight, image, 1, smooth) + 0.01 * weight
        velocity = 0.9 * velocity + gradient
        weight = weight - 0.1 * velocity
    split.batches = lambda *_, **__: iter([(split.images, split.labels)])  # type: ignore[method-assign]
    train(model, split, InMemory(split.images[:0], split.labels[:0]), config, seed=0, device=CPU)
    np.testing.assert_allclose(model.weight.detach().numpy(), weight, rtol=1e-12)


def test_adamw_takes_momentum_as_beta_one() -> None:
    optimizer = build_optimizer(network(), OptimConfig(optimizer="adamw", momentum=0.8))
    assert isinstance(optimizer, torch.optim.AdamW)
    assert {group["betas"] for group in optimizer.param_groups} == {(0.8, 0.999)}


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_only_matrices_and_filters_decay(name: str) -> None:
    model = network()
    config = OptimConfig.model_validate({"optimizer": name, "lr": 0.5, "weight_decay": 0.1})
    optimizer = build_optimizer(model, config)
    before = {key: value.clone() for key, value in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for key, value in model.named_parameters():
        factor = 1 - 0.5 * 0.1 if value.ndim > 1 else 1.0
        torch.testing.assert_close(value, before[key] * factor)


def test_frozen_parameters_stay() -> None:
    model = network()
    model[0].requires_grad_(False)
    before = model.state_dict()["0.weight"].clone()
    after, _ = run(OptimConfig(epochs=1), model=model)
    assert torch.equal(after["0.weight"], before)


@pytest.mark.parametrize("field_name", ["label_smoothing", "weight_decay", "momentum"])
def test_every_number_of_the_optimizer_matters(field_name: str) -> None:
    plain, _ = run(OptimConfig(epochs=1, batch_size=10))
    other, _ = run(OptimConfig.model_validate({"epochs": 1, "batch_size": 10, field_name: 0.3}))
    assert not equal(plain, other)


def test_lone_last_image_is_left_out() -> None:
    # Batch norm over one value per channel raises, so 9 images in batches of 4 end in one too few.
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 3))
    history = train(
        model, blobs(9), blobs(3), OptimConfig(epochs=2, batch_size=4), seed=0, device=CPU
    )
    assert len(history) == 2
    assert int(model.state_dict()["1.num_batches_tracked"]) == 2 * 2


# History


def test_training_learns() -> None:
    _, history = run(OptimConfig(epochs=8, batch_size=10))
    assert history[-1].train_loss < history[0].train_loss
    assert history[-1].validation_accuracy is not None
    assert history[-1].validation_accuracy > 0.7  # chance: 1/3


def test_training_numbers_are_means_over_images() -> None:
    # Weights that cannot move: a rate too small for float32 to see.
    model, split = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), blobs(50)
    config = OptimConfig(epochs=1, batch_size=16, lr=1e-30, schedule="constant")
    plain = InMemory(split.images, split.labels)
    batches = plain.batches
    plain.batches = lambda size, **_: batches(size)  # type: ignore[method-assign]
    record = train(model, plain, plain, config, seed=0, device=CPU)[0]
    logits = model(split.images).detach().double().numpy()
    own = logits[np.arange(50), split.labels.numpy()]
    loss = (np.log(np.exp(logits).sum(1)) - own).mean()
    assert record.train_loss == pytest.approx(loss, rel=1e-6)
    assert record.train_accuracy == (logits.argmax(1) == split.labels.numpy()).mean()
    assert record.validation_loss == pytest.approx(record.train_loss, rel=1e-6)


def test_empty_validation_split_leaves_its_numbers_out() -> None:
    history = train(network(), blobs(20), blobs(0), OptimConfig(epochs=1), seed=0, device=CPU)
    assert (history[0].validation_loss, history[0].validation_accuracy) == (None, None)


def test_zero_epochs_touch_nothing(tmp_path: Path) -> None:
    model = network().train()
    path = tmp_path / "training.pt"
    path.write_bytes(b"left by another")
    after, history = run(OptimConfig(epochs=0), model=model, checkpoint=path)
    assert history == ()
    assert equal(after, network().state_dict())
    assert model.training
    assert path.read_bytes() == b"left by another"


# Randomness


def test_same_seed_gives_the_same_bits() -> None:
    config = OptimConfig(epochs=3, batch_size=16)
    first, first_history = run(config)
    torch.rand(5)  # whatever the caller drew meanwhile
    second, second_history = run(config)
    assert equal(first, second)
    assert first_history == second_history


def test_another_seed_gives_other_weights() -> None:
    config = OptimConfig(epochs=1, batch_size=16)
    assert not equal(run(config, seed=0)[0], run(config, seed=1)[0])


def test_random_state_of_the_caller_is_untouched() -> None:
    before = torch.get_rng_state()
    run(OptimConfig(epochs=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_every_epoch_sees_the_images_in_another_order() -> None:
    split = blobs(50)
    train(network(), split, blobs(0), OptimConfig(epochs=3), seed=0, device=CPU)
    assert all(sorted(order) == list(range(50)) for order in split.orders)
    assert all(left != right for left, right in itertools.combinations(split.orders, 2))


# Early stopping


def climbing_loss(monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> list[dict[str, Tensor]]:
    """Dictate the validation losses; returns the weights as they were at each epoch's end."""
    seen: list[dict[str, Tensor]] = []

    def dictated(model: nn.Module, *_: object, **__: object) -> tuple[float, float]:
        seen.append({key: value.clone() for key, value in model.state_dict().items()})
        return 0.5, losses[len(seen) - 1]

    monkeypatch.setattr("mipp.training.loop.accuracy_and_loss", dictated)
    return seen


def test_patience_stops_and_restores_the_best_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = climbing_loss(monkeypatch, [3.0, 1.0, 2.0, 1.0, 0.5])
    after, history = run(OptimConfig(epochs=5, patience=2))
    assert [record.epoch for record in history] == [1, 2, 3, 4]  # an equal loss is no better one
    assert equal(after, seen[1])


def test_a_better_epoch_renews_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = climbing_loss(monkeypatch, [3.0, math.nan, 2.0, 2.5, 1.0])
    after, history = run(OptimConfig(epochs=5, patience=2))
    assert len(history) == 5
    assert equal(after, seen[4])


def test_without_patience_the_last_weights_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = climbing_loss(monkeypatch, [1.0, 2.0, 3.0])
    after, history = run(OptimConfig(epochs=3))
    assert len(history) == 3
    assert equal(after, seen[2])


# Resuming


@pytest.mark.usefixtures("save_every_epoch")
@pytest.mark.parametrize("killed_after", [1, 3, 5])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_killed_run_ends_as_an_undisturbed_one(
    tmp_path: Path, killed_after: int, optimizer: str
) -> None:
    config = OptimConfig.model_validate(
        {"epochs": 5, "batch_size": 16, "optimizer": optimizer, "lr": 0.01, "patience": 4}
    )
    undisturbed, full_history = run(config)
    path, new = tmp_path / "training.pt", list[EpochRecord]()
    with pytest.raises(Kill):
        run(config, checkpoint=path, on_epoch=kill_after(killed_after))
    resumed, history = run(config, checkpoint=path, on_epoch=new.append)
    assert equal(resumed, undisturbed)
    assert history == full_history
    assert tuple(new) == full_history[killed_after:]


@pytest.mark.usefixtures("save_every_epoch")
def test_resuming_keeps_the_best_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, config = tmp_path / "training.pt", OptimConfig(epochs=9, patience=3)
    seen = climbing_loss(monkeypatch, [1.0, 2.0, 3.0, 4.0, 5.0])
    with pytest.raises(Kill):
        run(config, checkpoint=path, on_epoch=kill_after(3))
    after, history = run(config, checkpoint=path)
    assert len(history) == 4
    assert equal(after, seen[0])


def test_run_killed_between_checkpoints_ends_as_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "WORK_PER_SAVE", math.inf)  # only the first epoch is saved
    config = OptimConfig(epochs=5, batch_size=16)
    path, new = tmp_path / "training.pt", list[EpochRecord]()
    with pytest.raises(Kill):
        run(config, checkpoint=path, on_epoch=kill_after(4))
    resumed, history = run(config, checkpoint=path, on_epoch=new.append)
    assert equal(resumed, run(config)[0])
    assert [record.epoch for record in new] == [2, 3, 4, 5]
    assert len(history) == 5


@pytest.mark.usefixtures("save_every_epoch")
@pytest.mark.parametrize("change", ["seed", "config", "shapes", "weights"])
def test_checkpoint_of_other_arguments_is_ignored(tmp_path: Path, change: str) -> None:
    path, config = tmp_path / "training.pt", OptimConfig(epochs=2)
    with pytest.raises(Kill):
        run(config, checkpoint=path, on_epoch=kill_after(1))
    model, seed, new = network(), 0, list[EpochRecord]()
    if change == "seed":
        seed = 1
    elif change == "config":
        config = OptimConfig(epochs=2, lr=0.01)
    elif change == "shapes":
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    else:
        model.state_dict()["0.weight"].fill_(1.0)
    run(config, model=model, seed=seed, checkpoint=path, on_epoch=new.append)
    assert [record.epoch for record in new] == [1, 2]


@pytest.mark.usefixtures("save_every_epoch")
def test_finished_training_removes_its_checkpoint(tmp_path: Path) -> None:
    path, there = tmp_path / "new folder" / "training.pt", list[bool]()
    run(
        OptimConfig(epochs=2),
        checkpoint=path,
        on_epoch=lambda _: there.append(path.exists()),
    )
    assert there == [True, True]
    assert list(path.parent.iterdir()) == []


def saved(**changed: object) -> bytes:
    """What an interrupted training leaves, with other values in it; None takes one out."""
    state = {"fingerprint": "of this run", "model": {}, "optimizer": {}, "scaler": {}}
    content = {**state, "history": [], "best": None, **changed}
    file = BytesIO()
    torch.save({key: value for key, value in content.items() if value is not None}, file)
    return file.getvalue()


DAMAGED = {
    "text": b"no checkpoint",
    "nothing": b"",
    "cut off": saved()[:-200],
    "no mapping": saved(fingerprint=None),
    "no weights": saved(model=None),
    "weights of another kind": saved(model=[1]),
    "an optimizer of another kind": saved(optimizer="sgd"),
    "a history of another kind": saved(history=[{"epoch": 1}]),
    "a history that is a number": saved(history=3),
    "a module that would be unpickled": saved(model=nn.Linear(1, 1)),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_checkpoint_is_refused_by_name(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "fingerprint", lambda *arguments: "of this run")
    path = tmp_path / "training.pt"
    path.write_bytes(DAMAGED[kind])
    with pytest.raises(CheckpointError, match=r"(?s)training\.pt cannot be read.*delete it"):
        run(OptimConfig(epochs=1), checkpoint=path)


# Refusals


def test_diverged_training_names_epoch_and_batch() -> None:
    split = blobs(50)
    split.images[:] = 1e30
    config = OptimConfig(epochs=3, batch_size=10, lr=1000, schedule="constant")
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    with pytest.raises(TrainingError, match=r"(?s)epoch 1, batch [1-5] of 5.*lower lr.* 100\b"):
        train(model, split, blobs(0), config, seed=0, device=CPU)


def test_divergence_names_the_first_bad_batch() -> None:
    split = blobs(50)
    batches = split.batches

    def poisoned(size: int, **_: object) -> Iterator[tuple[Tensor, Tensor]]:
        for index, (images, labels) in enumerate(batches(size)):
            yield images * (math.nan if index == 2 else 1.0), labels

    split.batches = poisoned  # type: ignore[method-assign, assignment]
    config = OptimConfig(epochs=1, batch_size=10)
    with pytest.raises(TrainingError, match=r"epoch 1, batch 3 of 5"):
        train(network(), split, blobs(0), config, seed=0, device=CPU)


def test_empty_training_split_is_refused() -> None:
    with pytest.raises(DataError, match=r"training split is empty"):
        train(network(), blobs(0), blobs(5), OptimConfig(epochs=1), seed=0, device=CPU)


def test_patience_without_validation_is_refused() -> None:
    config = OptimConfig(epochs=1, patience=2)
    with pytest.raises(ConfigError, match=r"(?s)patience 2 needs.*data\.validation"):
        train(network(), blobs(5), blobs(0), config, seed=0, device=CPU)


def test_float16_on_the_cpu_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"(?s)float16 cannot be had on the CPU.*bfloat16"):
        run(OptimConfig(epochs=1, precision="float16"))


# Precision


class DtypeProbe(nn.Linear):
    seen: torch.dtype | None = None

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images.flatten(1))
        if self.training:
            self.seen = logits.dtype
        return logits


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precision_is_that_of_the_training_products(precision: str) -> None:
    model = DtypeProbe(16, 3)
    config = OptimConfig.model_validate({"epochs": 1, "precision": precision})
    run(config, model=model)
    assert model.seen == getattr(torch, precision)
    assert model.weight.dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.usefixtures("save_every_epoch")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_gpu_run_resumes_and_learns(tmp_path: Path, precision: str) -> None:
    config = OptimConfig.model_validate({"epochs": 8, "batch_size": 10, "precision": precision})
    path, gpu, new = tmp_path / "training.pt", torch.device("cuda"), list[EpochRecord]()
    before = torch.cuda.get_rng_state()
    for on_epoch in (kill_after(3), new.append):
        model = network()
        try:
            history = train(
                model, blobs(50), blobs(20), config,
                seed=0, device=gpu, checkpoint=path, on_epoch=on_epoch,
            )  # fmt: skip
        except Kill:
            continue
    assert torch.equal(torch.cuda.get_rng_state(), before)
    assert [record.epoch for record in new] == [4, 5, 6, 7, 8]
    assert history[-1].train_loss < history[0].train_loss
    assert {parameter.device.type for parameter in model.parameters()} == {"cuda"}


@pytest.mark.parametrize(
    ("start", "made", "taken"),
    [
        ("refit", {"refit", "recalibrated", "distilled"}, "distilled"),
        ("refit", {"refit", "recalibrated"}, "refit"),
        ("pruned", {"refit", "recalibrated", "distilled"}, "recalibrated"),
        ("pruned", {"refit"}, "pruned"),
        ("refit", {"recalibrated"}, "recalibrated"),
        ("refit", set(), "pruned"),
    ],
)
def test_fine_tuning_starts_from_the_best_repair_unless_told(start, made, taken, tmp_path):
    (tmp_path / "prune").mkdir()
    names = ("recalibrated", "refit", "distilled")
    write_json(tmp_path / "prune/networks.json", {name: name in made for name in names})
    assert starting_point(tmp_path, start) == taken


# A teacher beside the labels


def taught(
    teacher: Teacher, *, labels: int = 0, checkpoint: Path | None = None, kill: int = 0
) -> dict[str, Tensor]:
    """Weights after three epochs, of labels rotated by so many classes."""
    images = blobs(50)
    split = InMemory(images.images, (images.labels + labels) % 3)
    model = network()
    train(
        model, split, blobs(20, seed=1), OptimConfig(epochs=3),
        seed=0, device=CPU, checkpoint=checkpoint, teacher=teacher,
        on_epoch=kill_after(kill) if kill else None,
    )  # fmt: skip
    return model.state_dict()


def opinion(seed: int = 1) -> nn.Module:
    """A dense network of the same inputs and classes, in train mode: it evaluates as a teacher."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3)
        )


@pytest.mark.parametrize(("weight", "temperature"), [(0.0, 4.0), (0.3, 1.0), (1.0, 5.0)])
def test_loss_of_answers_is_that_of_hinton(weight: float, temperature: float) -> None:
    student, teacher, x = network().eval(), opinion(), blobs(6).images
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    logits, loss = Teacher(teacher, weight, temperature).taught(student, x, labels, 0.0)

    def softened(model: nn.Module) -> npt.NDArray[np.float64]:
        made = model.eval()(x).detach().double().numpy() / temperature
        made = np.exp(made - made.max(1, keepdims=True))
        return made / made.sum(1, keepdims=True)

    told, said = softened(teacher), softened(student)
    apart = (told * np.log(told / said)).sum(1).mean() * temperature**2
    temperature = 1.0
    by_labels = -np.log(softened(student)[np.arange(6), labels]).mean()
    assert torch.equal(logits, student(x))
    assert loss.item() == pytest.approx((1 - weight) * by_labels + weight * apart, rel=1e-5)


def test_features_count_by_their_share_of_variance() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        teacher = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 3)).eval()
    student = copy.deepcopy(teacher)
    student[1] = nn.Linear(16, 2)
    student[3] = nn.Linear(2, 3)
    x, labels = blobs(8).images, torch.zeros(8, dtype=torch.int64)
    kept = {"3": torch.tensor([1, 3])}
    plain = Teacher(teacher, 0.0, 1.0).taught(student, x, labels, 0.0)[1]
    with_features = Teacher(teacher, 0.0, 1.0, 2.0, kept).taught(student, x, labels, 0.0)[1]
    wanted = teacher[:3](x)[:, [1, 3]].numpy(force=True)
    made = student[:3](x).numpy(force=True)
    share = np.square(made - wanted).mean() / wanted.var()
    assert (with_features - plain).item() == pytest.approx(2 * share, rel=1e-5)


def test_answers_alone_need_no_right_labels() -> None:
    assert equal(
        taught(Teacher(opinion(), 1.0, 4.0)), taught(Teacher(opinion(), 1.0, 4.0), labels=1)
    )
    assert not equal(
        taught(Teacher(opinion(), 0.9, 4.0)), taught(Teacher(opinion(), 0.9, 4.0), labels=1)
    )


def test_a_taught_network_comes_to_agree_with_its_teacher() -> None:
    teacher, student, images = opinion().eval(), network(), blobs(200)
    apart = Teacher(teacher, 1.0, 1.0)
    before = apart.taught(student.eval(), images.images, images.labels, 0.0)[1].item()
    train(student, images, blobs(20), OptimConfig(epochs=20), seed=0, device=CPU, teacher=apart)
    assert apart.taught(student, images.images, images.labels, 0.0)[1].item() < before / 3


def test_teacher_is_left_as_it_is() -> None:
    teacher = opinion()
    before, mode = copy.deepcopy(teacher.state_dict()), teacher.training
    taught(Teacher(teacher, 0.5, 4.0))
    assert equal(teacher.state_dict(), before)
    assert teacher.training == mode
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.usefixtures("save_every_epoch")
def test_killed_run_with_a_teacher_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    teacher, file = Teacher(opinion(), 0.5, 4.0), tmp_path / ".finetune.resume"
    with pytest.raises(Kill):
        taught(teacher, checkpoint=file, kill=2)
    assert equal(taught(teacher, checkpoint=file), taught(teacher))


@pytest.mark.usefixtures("save_every_epoch")
def test_another_teacher_takes_up_nothing(tmp_path: Path) -> None:
    file = tmp_path / ".finetune.resume"
    with pytest.raises(Kill):
        taught(Teacher(opinion(1), 0.5, 4.0), checkpoint=file, kill=2)
    other = Teacher(opinion(2), 0.5, 4.0)
    assert equal(taught(other, checkpoint=file), taught(other))


def test_best_start_is_that_of_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "prune"
    folder.mkdir()
    write_json(folder / "networks.json", {"refit": True, "recalibrated": False, "distilled": True})
    found = {"distilled": 0.7, "refit": 0.8, "pruned": 0.2}
    monkeypatch.setattr(
        finetune, "_made", lambda context, name, device: SimpleNamespace(model=name)
    )
    monkeypatch.setattr(finetune, "accuracy", lambda model, split, **options: found[model])
    context = SimpleNamespace(
        workdir=SimpleNamespace(folder=tmp_path),
        params=load_params(overrides=["finetune.start=best"]),
    )
    splits = SimpleNamespace(validation=blobs(6), shape=(1, 4, 4))
    start, told = finetune._start(context, splits, CPU)  # type: ignore[arg-type]
    assert (start, told) == ("refit", {"validation_accuracy": found})


def test_best_start_without_validation_is_refused() -> None:
    params = load_params(overrides=["finetune.start=best"])
    with pytest.raises(ConfigError, match=r"(?s)finetune.start=best needs .* got 0; raise"):
        require_start(params, SimpleNamespace(validation=blobs(0)))  # type: ignore[arg-type]
