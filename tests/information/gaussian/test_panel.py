"""What is foretold by blocks is what downdates one by one give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mipp.errors import SingularCovarianceError
from mipp.information.gaussian.blocks import Residuals, diagonal_blocks
from mipp.information.gaussian.panel import AHEAD, Panel
from mipp.information.gaussian.sides import Sides


def positive(size: int, seed: int) -> Tensor:
    values = np.random.default_rng(seed).normal(size=(size, 2 * size))
    return torch.from_numpy(values @ values.T / size)


def panel_of(precision: Tensor, weights: Tensor, channels: int, past: int = 0) -> Panel:
    """A panel of all of P, which is a matrix less the product of so many sides."""
    sides = precision[:, :past]
    base = precision + sides @ sides.mT
    residuals = Residuals(torch.ones(weights.shape[1]).double(), torch.zeros(1).double())
    blocks = diagonal_blocks(precision, channels).clone()
    return Panel(
        range(channels),
        channels,
        lambda rows, columns: base[rows, columns].clone(),
        sides,
        blocks,
        weights.clone(),
        residuals,
        0.0,
    )


def nats_one_by_one(
    precision: Tensor, weights: Tensor, block: int, drops: list[bool]
) -> list[float]:
    """The same by the definition: block elimination of the whole matrix after every drop."""
    p, w, residual = precision.clone(), weights.clone(), torch.ones(weights.shape[1]).double()
    found = []
    for channel, drop in enumerate(drops):
        own = slice(channel * block, (channel + 1) * block)
        rise = (w[own] * torch.linalg.solve(p[own, own], w[own])).sum(0)
        found.append(float(0.5 * torch.log1p(rise / residual).sum()))
        if drop:
            column = torch.linalg.solve(p[own, own], p[own]).mT
            w, p = w - column @ w[own], p - column @ p[own]
            residual = residual + rise
    return found


@pytest.mark.parametrize("past", [0, 5])
@pytest.mark.parametrize("block", [1, 3])
@pytest.mark.parametrize(
    "drops",
    [
        [True] * (2 * AHEAD),
        [False] * (2 * AHEAD),
        [True, False] * AHEAD,
        [*[True] * 7, *[False] * 9, *[True] * 3, *[False] * 2, *[True] * 11],
    ],
    ids=["all go", "all stay", "in turns", "runs"],
)
def test_foretold_losses_are_those_of_one_after_the_other(
    drops: list[bool], block: int, past: int
) -> None:
    channels = len(drops)
    precision = positive(channels * block, 0)
    weights = positive(channels * block, 1)[:, :4]
    panel = panel_of(precision, weights, channels, past)
    found = []
    for channel, drop in enumerate(drops):
        assert panel.holds(channel)
        found.append(panel.loss(channel))
        if drop:
            panel.drop(channel)
    expected = nats_one_by_one(precision, weights, block, drops)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    if any(drops):
        at, factor, projections = panel.dropped()
        whole = torch.linalg.cholesky(precision[at[:, None], at])
        assert torch.allclose(factor, whole, rtol=1e-9)
        assert torch.allclose(projections, torch.linalg.solve(whole, weights[at]), rtol=1e-7)


def test_a_channel_without_an_inverse_is_refused_when_it_is_asked_about() -> None:
    precision = positive(6, 0)
    precision[3:, :] = precision[:, 3:] = 0.0
    panel = panel_of(precision + torch.diag(torch.tensor([0.0] * 5 + [1.0])), positive(6, 1), 6)
    for channel in range(3):
        panel.loss(channel)
        panel.drop(channel)
    with pytest.raises(SingularCovarianceError, match="stops at pivot 1"):
        panel.loss(3)


def test_sides_keep_what_they_took_while_they_grow_and_shrink() -> None:
    generator = np.random.default_rng(0)
    columns = [torch.from_numpy(generator.normal(size=(9, k))) for k in (2, 1, 4)]
    sides = Sides(columns[0], room=0)
    for part in columns[1:]:
        sides.append(part)
    sides.shorten(3)
    sides.append(columns[0][1:], first=1)
    last = columns[0].clone()
    last[0] = 0
    whole = torch.cat([*columns[:2], last], 1)
    found = sides.taken_from(torch.zeros(2, 9).double(), slice(1, 3), slice(None))
    assert torch.allclose(found, -(whole[1:3] @ whole.T))
