"""One predictor for every subset (DIME: Gadgil, Covert and Lee 2024, arXiv:2306.03301)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mipp.direct_settings import Dime
from mipp.errors import EstimationError
from mipp.information.direct.eliminate import (
    DirectElimination,
    DirectState,
    RepeatedElimination,
    prepare_rows,
)
from mipp.information.estimators import Estimator, PairData
from mipp.information.null_column import null_column

HELD_OUT = 3  # a third of the rows judges
CLASSES = 32  # so many different rows of targets are labels, more are numbers
LEAST = -8.0  # log of the least variance: a target that is known tells 4 nats
ENTRIES = 2**22  # of inputs that are held at once


class Masked(nn.Module):
    """A perceptron of the known columns, the others 0, and of which they are."""

    def __init__(self, channels: int, block: int, outputs: int, width: int) -> None:
        super().__init__()
        self.block = block
        self.layers = nn.Sequential(
            nn.Linear(channels * (block + 1), width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, outputs),
        )

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        """Of rows (n, channels, block), where `known` (n, channels) is 1; (n, outputs)."""
        seen = (x * known[:, :, None]).flatten(1)
        found: Tensor = self.layers(torch.cat([seen, known], 1))
        return found


@dataclass(frozen=True)
class DimeState:
    """Rows of a pair, the predictor of its targets, and what a column is expected to add.

    `classes` are the different rows (k, m) of targets that are labels; none of numbers.
    """

    rows: DirectState
    classes: Tensor
    predictor: Masked
    value: Masked

    def tensors(self) -> dict[str, Tensor]:
        """Everything in it as named tensors, for a file."""
        networks = {"predictor": self.predictor, "value": self.value}
        weights = {
            f"{n}.{k}": t for n, net in networks.items() for k, t in net.state_dict().items()
        }
        return {**self.rows.tensors(), "classes": self.classes, **weights}


def from_tensors(tensors: Mapping[str, Tensor]) -> DimeState:
    """The state whose `tensors` these are."""
    rows = DirectState(tensors["x"], tensors["y"])
    networks = []
    for name in ("predictor", "value"):
        own = {k.removeprefix(f"{name}."): t for k, t in tensors.items() if k.startswith(name)}
        width, outputs = len(own["layers.0.bias"]), len(own["layers.4.bias"])
        channels, block = rows.x.shape[1:]
        network = Masked(channels, block, outputs, width).to(rows.x.device)
        network.load_state_dict(own)
        networks.append(network)
    return DimeState(rows, tensors["classes"], *networks)


def prepare_dime(data: PairData, settings: Dime, seed: int) -> DimeState:
    """The predictor of one pair, trained."""
    return train(prepare_rows(data, settings, seed), settings, seed)


def train(rows: DirectState, settings: Dime, seed: int) -> DimeState:
    """Predictor and value network by minibatches in which a random subset of columns is known.

    The first is trained on the loss of the targets, the second on what that falls by when one more
    column is known; held-out rows say which step's predictor is best.

    Raises
    ------
    EstimationError : the training diverges.
    """
    x, y = rows.x.float(), rows.y.float()
    (n, channels, block), held = x.shape, len(x) // HELD_OUT
    different: Tensor = y.unique(dim=0)  # type: ignore[no-untyped-call]
    classes = different if len(different) <= min(CLASSES, n / 10) else y[:0]
    outputs = len(classes) or 2 * y.shape[1]
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        networks = [Masked(channels, block, k, settings.width) for k in (outputs, channels)]
    predictor, value = (network.to(x.device) for network in networks)
    optimiser = torch.optim.Adam([*predictor.parameters(), *value.parameters()], settings.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    judge = _subsets(held, channels, generator).to(x)
    loss_of = partial(losses, classes=classes, targets=torch.arange(y.shape[1], device=x.device))
    best, kept = math.inf, predictor.state_dict()
    size = min(settings.batch_size, n - held)
    for step in range(1, settings.steps + 1):
        at = held + torch.randperm(n - held, generator=generator, device="cpu")[:size].to(x.device)
        known = _subsets(size, channels, generator).to(x)
        one = torch.randint(channels, (size,), generator=generator, device="cpu")
        new = F.one_hot(one, channels).to(known)
        both, twice = torch.cat([known, known.maximum(new)]), torch.cat([at, at])
        each = loss_of(predictor(x[twice], both), y[twice])
        falls = (each[:size] - each[size:]).detach()
        expected = (value(x[at], known) * new).sum(1)
        optimiser.zero_grad()
        torch.autograd.backward(each.mean() + (expected - falls).square().mean())
        optimiser.step()
        schedule.step()
        if step % settings.every == 0 or step == settings.steps:
            with torch.no_grad():
                now = float(loss_of(predictor(x[:held], judge), y[:held]).mean())
            if not math.isfinite(now):
                raise EstimationError(
                    f"the predictor of dime diverges at step {step}.\nExpected a finite loss; "
                    f"lower lr, which is {settings.lr:g}."
                )
            if now < best:
                best, kept = now, {k: t.clone() for k, t in predictor.state_dict().items()}
    predictor.load_state_dict(kept)
    return DimeState(rows, classes, predictor.requires_grad_(False), value.requires_grad_(False))


def losses(outputs: Tensor, y: Tensor, classes: Tensor, targets: Tensor) -> Tensor:
    """Nats that the targets of each row cost, (n,): cross entropy, or of a normal each.

    Labels that differ in no target that counts are one.
    """
    if len(classes):
        rows = classes[:, targets]
        some, which = rows.unique(dim=0, return_inverse=True)  # type: ignore[no-untyped-call]
        own = (y[:, None, targets] == some).all(2)  # (n, k of those)
        shares = outputs.softmax(1) @ F.one_hot(which, len(some)).to(outputs)
        costs: Tensor = -(shares.clamp_min(1e-12) * own).sum(1).log()
        return costs
    mean, log_variance = (part[:, targets] for part in outputs.chunk(2, 1))
    log_variance = log_variance.clamp(LEAST, -LEAST)
    squares = (y[:, targets] - mean).square() * (-log_variance).exp()
    return 0.5 * (squares + log_variance + math.log(2 * math.pi)).sum(1)


def _subsets(rows: int, channels: int, generator: torch.Generator) -> Tensor:
    """Of every size as often, drawn at random, as 1 and 0; (rows, channels)."""
    sizes = torch.randint(channels + 1, (rows, 1), generator=generator, device="cpu")
    jitter = torch.rand(rows, channels, generator=generator, device="cpu")
    places = jitter.argsort(1).argsort(1)
    return (places < sizes).float()


@dataclass(frozen=True)
class DimeInformation:
    """Answers for one pair: the fall of the held-out loss against that of no column.

    Blind: a predictor for all subsets is no subset's best one, and has to be learnt: what few rows
    or steps teach too little of is told too little. Numbers are taken for normal, each with a
    variance of its own, and what several targets are told is added up, as `gaussian` does; of
    labels it is the information itself.

    Source: arXiv:2306.03301v3, section 4. Departs: subsets are drawn at random, not by the value
    network; nats of a question about all rows are a difference of two losses, which the value
    network's expectations come to in the mean; it is asked about single columns.
    """

    state: DimeState
    known: dict[tuple[bytes, frozenset[int]], float] = field(default_factory=dict)

    def single(self, targets: Tensor) -> Tensor:
        """Information of each channel alone with the target rows, nats, (channels,)."""
        channels = self.state.rows.x.shape[1]
        if len(targets) == self.state.rows.y.shape[1]:
            return self.expected(()).mean(0)
        each = self.of_many(targets, [[c] for c in range(channels)])
        return torch.tensor(each, dtype=torch.float64, device="cpu")

    def joint(self, targets: Tensor) -> float:
        """Information of all channels together with the target rows, nats."""
        return self.of_many(targets, [range(self.state.rows.x.shape[1])])[0]

    def expected(self, subset: Sequence[int]) -> Tensor:
        """Nats that each channel is expected to add, by what the subset says of each held-out row.

        That is the value network's, (rows, channels): which column to look at next, row by row.
        """
        x = self._held_out[0]
        known = torch.zeros(len(x), x.shape[1], device=x.device)
        known[:, list(subset)] = 1
        found: Tensor = self.state.value(x, known) * (1 - known)
        return found.double().cpu()

    def eliminate(self, targets: Tensor) -> DimeElimination:
        """A backward elimination against the target rows."""
        return DimeElimination(self.state.rows.x.shape[1], partial(self.of_many, targets))

    def eliminate_in_order(self, targets: Tensor, order: Sequence[int]) -> DimeElimination:
        return self.eliminate(targets)

    def of_many(self, targets: Tensor, subsets: Sequence[Sequence[int]]) -> list[float]:
        """Information of each of these subsets, as many as fit at once."""
        asked = targets.cpu().numpy().tobytes()
        keys = [(asked, frozenset(map(int, subset))) for subset in subsets]
        nothing = (asked, frozenset[int]())
        new = list(dict.fromkeys(key for key in (nothing, *keys) if key not in self.known))
        x, y = self._held_out
        together = max(1, ENTRIES // (len(x) * (x.shape[1] * (x.shape[2] + 1))))
        for start in range(0, len(new), together):
            part = new[start : start + together]
            known = torch.zeros(len(part), x.shape[1], device=x.device)
            for row, (_, subset) in enumerate(part):
                known[row, list(subset)] = 1
            outputs = self.state.predictor(
                x.repeat(len(part), 1, 1), known.repeat_interleave(len(x), 0)
            )
            each = losses(outputs, y.repeat(len(part), 1), self.state.classes, targets.to(x.device))
            means = each.double().view(len(part), -1).mean(1).tolist()
            self.known.update(zip(part, means, strict=True))
        return [self.known[nothing] - self.known[key] for key in keys]

    @cached_property
    def _held_out(self) -> tuple[Tensor, Tensor]:
        held = len(self.state.rows.x) // HELD_OUT
        return self.state.rows.x[:held].float(), self.state.rows.y[:held].float()


class DimeElimination(DirectElimination):
    """Elimination whose questions about all channels are asked at once."""

    def __init__(
        self, channels: int, of_many: Callable[[Sequence[Sequence[int]]], list[float]]
    ) -> None:
        super().__init__(channels, lambda subset: of_many([subset])[0])
        self._of_many = of_many

    def losses(self) -> Tensor:
        self._of_many([[c for c in self._present if c != gone] for gone in self._present])
        return super().losses()


@dataclass(frozen=True)
class RepeatedDime:
    """A predictor on each of disjoint parts of the rows, beside a column that tells nothing."""

    whole: DimeInformation
    settings: Dime
    seed: int

    def single(self, targets: Tensor) -> Tensor:
        return self.whole.single(targets)

    def joint(self, targets: Tensor) -> float:
        return self.whole.joint(targets)

    def eliminate_in_order(self, targets: Tensor, order: Sequence[int]) -> RepeatedElimination:
        each = [part.eliminate(targets) for part in self._parts]
        return RepeatedElimination(each, null=self.whole.state.rows.x.shape[1])

    @cached_property
    def _parts(self) -> list[DimeInformation]:
        rows = self.whole.state.rows
        noise = null_column(rows.x, torch.Generator().manual_seed(self.seed))
        sides = torch.cat([rows.x, noise], 1), rows.y
        parts = zip(*(side.tensor_split(self.settings.repeats) for side in sides), strict=True)
        return [DimeInformation(train(DirectState(*p), self.settings, self.seed)) for p in parts]


def _answers(state: DimeState, data: PairData, settings: Dime, seed: int) -> DimeInformation:
    return DimeInformation(state)


def _samples(state: DimeState, data: PairData, settings: Dime, seed: int) -> RepeatedDime:
    return RepeatedDime(DimeInformation(state), settings, seed)


ESTIMATOR = Estimator(Dime, prepare_dime, from_tensors, _answers, _samples)
