"""Scores of a diffusion (MINDE: Franzese, Bounoua and Michiardi 2024, arXiv:2310.09031)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mipp.direct_settings import Diffusion
from mipp.errors import EstimationError
from mipp.information.direct.eliminate import direct_estimator

HELD_OUT = 3  # a third of the rows judges
RANGE = (-6.0, 8.0)  # log of signal over noise: pure noise, and as good as none


class Denoiser(nn.Module):
    """The noise in a noisy y, as seen with x (n, d) or, where `known` is 0, without it."""

    def __init__(self, inputs: int, targets: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(targets + inputs + 2, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, targets),
        )

    def forward(self, noisy: Tensor, ratio: Tensor, x: Tensor, known: Tensor) -> Tensor:
        found: Tensor = self.layers(torch.cat([noisy, ratio / 4, x * known, known], 1))
        return found


def measure_by_diffusion(x: Tensor, y: Tensor, settings: Diffusion, seed: int) -> float:
    """Half of how much knowing x changes the denoised y, over all ratios of signal to noise.

    With z = sqrt(s) y + noise, I(x; y) is half of the integral over log s of the expected squared
    difference between the two predictions of the noise.

    Blind: what is told at higher ratios than e^8 (copies) is left out, and a poor denoiser tells
    too little.

    Source: eq. (18), the difference of both scores, written over log s. Departs: one perceptron on
    standardised columns, ratios drawn evenly.

    Raises
    ------
    EstimationError : the training diverges.
    """
    x, y = x.float(), y.float()
    held = len(x) // HELD_OUT
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)
        denoiser = Denoiser(x.shape[1], y.shape[1], settings.width).to(x.device)
    optimiser = torch.optim.Adam(denoiser.parameters(), lr=settings.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    size = min(settings.batch_size, len(x) - held)
    for _ in range(settings.steps):
        rows = held + torch.randperm(len(x) - held, generator=generator)[:size].to(x.device)
        noisy, ratio, noise = _noised(y[rows], generator)
        known = torch.rand(len(rows), 1, generator=generator).gt(0.5).float().to(x.device)
        optimiser.zero_grad()
        loss = (denoiser(noisy, ratio, x[rows], known) - noise).square().mean()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
    told = _change(denoiser, x[:held], y[:held], generator)
    if not math.isfinite(told):
        raise EstimationError(
            "the denoiser diverges.\nExpected finite information; lower lr, which is "
            f"{settings.lr:g}."
        )
    return told


def _noised(y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy y of unit variance, the log of its ratio of signal to noise (n, 1), and the noise."""
    low, high = RANGE
    ratio = (low + (high - low) * torch.rand(len(y), 1, generator=generator)).to(y.device)
    noise = torch.randn(y.shape, generator=generator).to(y.device)
    signal = torch.sigmoid(ratio)
    return signal.sqrt() * y + (1 - signal).sqrt() * noise, ratio, noise


@torch.no_grad()
def _change(denoiser: Denoiser, x: Tensor, y: Tensor, generator: torch.Generator) -> float:
    low, high = RANGE
    total, rounds = 0.0, 16
    one = torch.ones(len(x), 1, device=x.device)
    for _ in range(rounds):
        noisy, ratio, _ = _noised(y, generator)
        each = [denoiser(noisy, ratio, x, known * one) for known in (0.0, 1.0)]
        total += float((each[0] - each[1]).square().sum(1).mean())
    return (high - low) * total / rounds / 2


ESTIMATOR = direct_estimator(Diffusion, measure_by_diffusion)
