"""One predictor for every subset (DIME: Gadgil, Covert and Lee 2024, arXiv:2306.03301)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor

from mipp.direct_settings import Dime
from mipp.information.direct.eliminate import (
    DirectElimination,
    DirectState,
    RepeatedInformation,
    prepare_rows,
)
from mipp.information.direct.masked import HELD_OUT, Masked, losses, train
from mipp.information.estimators import Estimator, PairData

ENTRIES = 2**22  # of inputs that are held at once


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
    return trained(prepare_rows(data, settings, seed), settings, seed)


def trained(rows: DirectState, settings: Dime, seed: int) -> DimeState:
    """The state of some rows."""
    return DimeState(rows, *train(rows.x.float(), rows.y.float(), settings, seed))


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


def _answers(state: DimeState, data: PairData, settings: Dime, seed: int) -> DimeInformation:
    return DimeInformation(state)


def _samples(state: DimeState, data: PairData, settings: Dime, seed: int) -> RepeatedInformation:
    def of(rows: DirectState) -> DimeInformation:
        return DimeInformation(trained(rows, settings, seed))

    return RepeatedInformation(DimeInformation(state), state.rows, of, settings.repeats, seed)


ESTIMATOR = Estimator(Dime, prepare_dime, from_tensors, _answers, _samples)
