"""Channels lie last while a network is trained, where it gains from that and bears it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mipp.axes import faster_order
from mipp.config import OptimConfig
from mipp.training import train
from tests.images_in_memory import InMemory

CPU = torch.device("cpu")
LAST, USUAL = torch.channels_last, torch.contiguous_format


class Flattening(nn.Module):
    """Ends as its `flatten` says; with two inputs where `both`."""

    def __init__(self, flatten: Any, width: int = 16, both: bool = False) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, width, 3), nn.Conv2d(width, width, 3)
        self.norm, self.last, self.flatten = nn.BatchNorm2d(width), nn.Linear(4 * width, 3), flatten
        self.both = both

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        assert bool(others) == self.both
        x = self.norm(self.second(self.first(sum(others, x)).relu())).relu()
        return self.last(self.flatten(x))


def viewed(x: Tensor) -> Tensor:
    return x.view(len(x), -1)


def flat(x: Tensor) -> Tensor:
    return x.flatten(1)


@pytest.mark.parametrize(
    ("model", "count", "order"),
    [
        (Flattening(flat), 1, LAST),
        (Flattening(flat, both=True), 2, LAST),
        (Flattening(flat, width=8), 1, USUAL),  # too narrow to gain
        (Flattening(viewed), 1, USUAL),  # cannot run so
        (nn.Sequential(nn.Flatten(), nn.Linear(36, 32), nn.Linear(32, 3)), 1, USUAL),
    ],
    ids=["wide", "of two inputs", "narrow", "viewed", "without filters"],
)
def test_channels_lie_last_where_that_is_faster_and_runs(
    model: nn.Module, count: int, order: torch.memory_format
) -> None:
    images = [torch.randn(2, 1, 6, 6) for _ in range(count)]
    before = {name: x.clone() for name, x in model.state_dict().items()}
    assert faster_order(model, lambda: images[0] if count == 1 else tuple(images)) == order
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    filters = [p for p in model.parameters() if p.ndim == 4]
    assert all(p.is_contiguous(memory_format=order) for p in filters)


@pytest.mark.parametrize("flatten", [flat, viewed])
def test_a_training_by_default_is_that_in_the_usual_order(flatten: Any) -> None:
    images = InMemory(torch.randn(12, 1, 6, 6, dtype=torch.float64), torch.arange(12) % 3)
    weights = []
    for order in ("auto", False):
        torch.manual_seed(0)
        model = Flattening(flatten).double()
        config = OptimConfig(epochs=2, batch_size=4, channels_last=order)
        train(model, images, images, config, seed=0, device=CPU)
        assert all(parameter.is_contiguous() for parameter in model.parameters())
        weights.append(list(model.parameters()))
    for a, b in zip(*weights, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
