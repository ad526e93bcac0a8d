"""Contract tests for parts that people bring; plain functions, to be called from any test.

`check_criterion` is the contract of a rival criterion, on a chain of convolutions with batch
norms, a residual stream and linear layers, each small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from mipp.criteria.shared.criterion import Criterion, CriterionInput
from mipp.criteria.shared.scoring import score_units
from mipp.errors import ContractError, ScoreError
from mipp.graph import ChannelGraph, build_graph
from mipp.inputs import Inputs
from mipp.names import address_of
from mipp.selection.scores import Scores

IMAGES = 24
CLASSES = 3
BATCHES = (24, 16, 7)  # sizes; the last of the last holds 3 images
TOLERANCE = 1e-4  # of the largest score, between batches of other sizes
SEED = 5

Build = Callable[[], tuple[nn.Module, tuple[int, ...]]]  # a network, and the shape of an image


def check_criterion(
    score: Criterion,
    labels: Literal["needed", "unused"] = "needed",
    seeded: Literal["fixed", "drawn"] = "fixed",
) -> None:
    """Check that a function is a criterion, whatever it goes by.

    It gives every unit of every group a finite float, tells some apart, gives the same again
    under the same seed, leaves weights, gradients, buffers, modes and hooks as found, and goes
    neither by the size of the batches nor by the mode of the network, nor by which weights are
    frozen.

    Parameters
    ----------
    labels : `unused`: it works where there are none, by `given.inputs()`.
    seeded : `drawn`: another seed gives other scores; `fixed`: it may draw nothing.

    Raises
    ------
    ContractError : an AssertionError, too, that says what is broken on which network.

    Example
    -------
    >>> def score(given):
    ...     return {name: np.arange(w, dtype=float) for name, w in given.graph.widths.items()}
    >>> check_criterion(score, labels="unused")
    """
    for kind, build in NETWORKS.items():
        case = _Case(score, f"criterion {address_of(score)} on {kind}", build, labels)
        expected = case.scores()
        _require_same(case.scores(), expected, f"{case.name} gives other scores a second time", 0)
        if seeded == "drawn" and _difference(case.scores(seed=SEED + 1), expected) == 0:
            raise ContractError(
                f"{case.name} goes by no seed.\nExpected other scores for given.seed={SEED + 1}, "
                f"got those for {SEED}; draw by np.random.default_rng(given.seed)."
            )
        in_training = case.scores(mode="training")
        what = f"{case.name} goes by the mode of the network, or by which weights are frozen"
        _require_same(in_training, expected, what)
        for size in BATCHES[1:]:
            what = f"{case.name} goes by the size of the batches, {size} or {BATCHES[0]} images"
            _require_same(case.scores(batch=size), expected, what)


@dataclass(frozen=True)
class _Case:
    """A criterion on one kind of network, built anew for every question."""

    score: Criterion
    name: str
    build: Build
    labels: Literal["needed", "unused"]

    def scores(
        self,
        *,
        batch: int = BATCHES[0],
        mode: Literal["eval", "training"] = "eval",
        seed: int = SEED,
    ) -> Scores:
        given = self._given(batch, seed)
        given.model.train(mode == "training")
        first, *others = given.model.parameters()
        first.grad = torch.ones_like(first)
        for parameter in others if mode == "training" else ():
            parameter.requires_grad_(False)
        before = _state(given.model)
        try:
            found = score_units(address_of(self.score), self.score, given)
        except ScoreError as error:
            raise ContractError(f"{self.name} gives no ranking. {error}") from error
        _require_untouched(before, _state(given.model), self.name)
        return found

    def _given(self, batch: int, seed: int) -> CriterionInput:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(SEED)
            model, shape = self.build()
            images, labels = (
                torch.randn(IMAGES, *shape, device="cpu"),
                torch.randint(CLASSES, (IMAGES,), device="cpu"),
            )
        batches = list(zip(_split(images, batch), _split(labels, batch), strict=True))
        given = CriterionInput(model, _graph_of(self.build), lambda: batches, seed)
        if self.labels == "needed":
            return given
        return replace(given, batches=self._unlabelled, unlabelled=lambda: _split(images, batch))

    def _unlabelled(self) -> Iterator[tuple[Inputs, Tensor]]:
        raise ContractError(
            f"{self.name} asks for labels.\nExpected it to go by given.inputs() alone, got a call "
            "of given.batches(); say labels='needed'."
        )


@cache
def _graph_of(build: Build) -> ChannelGraph:
    """Followed once: it goes by the layers of a network, not by its weights."""
    model, shape = build()
    generator = torch.Generator().manual_seed(SEED)
    return build_graph(model, torch.randn(1, *shape, generator=generator, device="cpu"))


def _split(x: Tensor, size: int) -> list[Tensor]:
    return [x[start : start + size] for start in range(0, len(x), size)]


def _state(model: nn.Module) -> dict[str, Any]:
    """Everything of a network that a criterion might leave changed."""
    state: dict[str, Any] = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        state[f"values of {name}"] = tensor.detach().clone()
        state[f"requires_grad of {name}"] = tensor.requires_grad
        state[f"gradient of {name}"] = None if tensor.grad is None else tensor.grad.clone()
    for name, module in model.named_modules():
        state[f"mode of module {name!r}"] = module.training
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        state[f"hooks of module {name!r}"] = [len(kind) for kind in hooks]
    return state


def _require_untouched(before: Mapping[str, Any], after: Mapping[str, Any], name: str) -> None:
    for part in dict.fromkeys((*before, *after)):
        if not _same(before.get(part), after.get(part)):
            raise ContractError(
                f"{name} changes the network: the {part}.\nExpected it as found, got it changed; "
                "work on a copy (copy.deepcopy, torch.func.functional_call), and undo what must "
                "be done to the network itself in a finally."
            )


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.equal(a, b)
    return type(a) is type(b) and bool(a == b)


def _difference(found: Scores, expected: Scores) -> float:
    """Largest difference, as a share of the largest score."""
    largest = max(float(np.abs(values).max(initial=0)) for values in expected.values())
    apart = max(float(np.abs(found[g] - expected[g]).max(initial=0)) for g in expected)
    return apart / (largest or 1.0)


def _require_same(found: Scores, expected: Scores, what: str, tolerance: float = TOLERANCE) -> None:
    apart = _difference(found, expected)
    if apart > tolerance:
        raise ContractError(
            f"{what}.\nExpected the same scores up to {tolerance:g} of the largest, got them "
            f"{apart:.2g} apart; draw by np.random.default_rng(given.seed), take sums over images "
            "before anything that is no sum, and run the network in eval mode."
        )


class _Residual(nn.Module):
    """Two blocks on one stream, whose channels leave together."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.first, self.second = nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(8, 6, 1)
        self.norm, self.head = nn.BatchNorm2d(6), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = x + self.norm(self.second(self.first(x).relu()))
        return self.head(x.relu().mean((2, 3)))  # type: ignore[no-any-return]


def _chain() -> tuple[nn.Module, tuple[int, ...]]:
    layers = (
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(32, 10), nn.ReLU(), nn.Linear(10, CLASSES),
    )  # fmt: skip
    return nn.Sequential(*layers), (3, 8, 8)


def _linear() -> tuple[nn.Module, tuple[int, ...]]:
    layers = nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, CLASSES)
    return nn.Sequential(*layers), (5,)


NETWORKS: Mapping[str, Build] = {
    "a chain of convolutions": _chain,
    "a residual stream": lambda: (_Residual(), (3, 8, 8)),
    "linear layers": _linear,
}
