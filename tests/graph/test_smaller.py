"""Proofs on smaller images: the same groups, where the network does the same."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mipp.graph import build_graph
from mipp.graph.cutting import cut_channels
from mipp.graph.passes import follow_calls
from mipp.graph.probe import TRIALS
from mipp.graph.smaller import smaller_example
from mipp.graph.trail import run_once

SEEN: Counter[tuple[torch.dtype, int]] = Counter()  # type and width of what forward was given


class Plain(nn.Module):
    """Two convolutions and a classifier, for images of any size; notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, 2, padding=1)
        self.second = nn.Conv2d(8, 6, 3, 2, padding=1)
        self.head = nn.Linear(6, 4)

    def between(self, x: Tensor) -> Tensor:
        return x.relu()

    def forward(self, x: Tensor) -> Tensor:
        SEEN[x.dtype, x.shape[-1]] += 1
        x = self.second(self.between(self.first(x)))
        return self.head(x.mean((2, 3)))


class Moved(Plain):
    """Channels move on the way, at any size."""

    def between(self, x: Tensor) -> Tensor:
        return torch.special.expit(x).cumsum(1)


class OnLarge(Plain):
    """Large images go another way than small ones."""

    def between(self, x: Tensor) -> Tensor:
        return x.relu() if x.shape[-1] < 40 else x.relu().softmax(1)


class Fixed(Plain):
    """An embedding of each position holds the size."""

    def __init__(self) -> None:
        super().__init__()
        self.at = nn.Parameter(torch.randn(8, 64, 64))

    def between(self, x: Tensor) -> Tensor:
        return x.relu() + self.at


class Deep(nn.Sequential):
    """Its last map is one position at a quarter of the size, and 2 x 2 at half of it."""

    def __init__(self) -> None:
        layers = [nn.Conv2d(3 if i == 0 else 4, 4, 3, 2, padding=1) for i in range(5)]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def small_side(model: nn.Module, side: int = 128) -> int:
    example = torch.randn(1, 3, side, side)
    model.eval()
    trail, followed = run_once(model, example), follow_calls(model, example)
    found = smaller_example(model, example, trail, followed)
    assert isinstance(found, Tensor)
    return found.shape[-1]


@pytest.mark.parametrize(
    ("kind", "side", "expected"),
    [
        (Plain, 128, 32),
        (Plain, 224, 64),
        (Plain, 32, 32),
        (Moved, 128, 32),
        (Fixed, 128, 128),
        (OnLarge, 128, 128),
        (Deep, 128, 64),
    ],
)
def test_images_are_as_small_as_the_network_does_the_same(
    kind: Any, side: int, expected: int
) -> None:
    assert small_side(kind(), side) == expected


@pytest.mark.parametrize("kind", [Plain, Moved, Fixed, OnLarge, Deep])
def test_groups_are_those_of_a_proof_at_full_size(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model, example = kind().eval(), torch.randn(1, 3, 128, 128)
    found = build_graph(model, example)
    monkeypatch.setattr("mipp.graph.smaller.SHARES", ())
    whole = build_graph(model, example)
    assert found.widths == whole.widths
    assert found.left_whole == whole.left_whole
    assert found.macs(found.widths) == whole.macs(whole.widths)


def test_a_sound_network_is_proven_by_a_whole_and_a_cut_pass_of_each_trial() -> None:
    model = Plain().eval()
    SEEN.clear()
    graph = build_graph(model, torch.randn(1, 3, 128, 128))
    assert graph.widths == {"first": 8, "second": 6}
    proofs = {seen: passes for seen, passes in SEEN.items() if seen[0] is torch.float64}
    assert proofs == {(torch.float64, 32): 2 * TRIALS}


def test_a_cut_that_shares_parameters_leaves_the_model_as_it_was() -> None:
    model = Plain().eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    groups = build_graph(model, torch.randn(1, 3, 32, 32)).groups
    dropped = {"first": torch.arange(3).numpy()}
    shared = cut_channels(model, groups, dropped, parameters="shared")
    copied = cut_channels(model, groups, dropped)
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)
    assert shared.head.weight is model.head.weight is not copied.head.weight
    assert shared.first.weight.shape[0] == 5
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(shared(x), copied(x))
