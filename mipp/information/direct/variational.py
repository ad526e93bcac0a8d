"""Lower bounds by a trained critic (Poole et al. 2019, arXiv:1905.06922).

MINE (Belghazi 2018, arXiv:1801.04062), InfoNCE (van den Oord 2018, arXiv:1807.03748), NWJ (Nguyen
2010, IEEE TIT 56(11)), TUBA and the interpolation between InfoNCE and TUBA.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mipp.direct_settings import NWJ, TUBA, InfoNCE, Interpolated, Mine, Variational
from mipp.errors import EstimationError
from mipp.information.direct.eliminate import direct_estimator

HELD_OUT = 3  # a third of the rows judges


class Critic(nn.Module):
    """Scores (n, n) of every x with every y, and a baseline (n,) of every y."""

    def __init__(self, inputs: int, targets: int, width: int) -> None:
        super().__init__()
        self.of_x, self.of_y = nn.Linear(inputs, width), nn.Linear(targets, width)
        self.after = nn.Sequential(nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.score = nn.Linear(width, 1)
        self.base = nn.Sequential(nn.Linear(targets, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        together = self.of_x(x)[:, None] + self.of_y(y)[None]  # (n of x, n of y, width)
        scores: Tensor = self.score(self.after(together)).squeeze(-1)
        return scores, self.base(y).squeeze(-1)


Bound = Callable[[Tensor, Tensor], Tensor]
"""Nats of scores (n, n), whose diagonal is of pairs that belong together, and a baseline (n,)."""


def nwj(scores: Tensor, base: Tensor) -> Tensor:
    """E f - E' exp(f - 1), eq. (8): no bias where f is best, a variance that grows as exp I."""
    return scores.diagonal().mean() - (_log_mean_apart(scores) - 1).exp()


def tuba(scores: Tensor, base: Tensor) -> Tensor:
    """The same with a baseline of y, eq. (7)."""
    return 1 + nwj_of(scores - base)


def nwj_of(scores: Tensor) -> Tensor:
    """E f - E' exp f."""
    return scores.diagonal().mean() - _log_mean_apart(scores).exp()


def mine(scores: Tensor, base: Tensor) -> Tensor:
    """E f - log E' exp f, of Donsker and Varadhan; of a batch it is above the bound in the mean."""
    return scores.diagonal().mean() - _log_mean_apart(scores)


def infonce(scores: Tensor, base: Tensor) -> Tensor:
    """E log of f's share among all x of the batch, eq. (12): never above the log of the batch."""
    n = len(scores)
    return (scores.diagonal() - scores.logsumexp(0)).mean() + math.log(n)


def interpolated(scores: Tensor, base: Tensor, alpha: float = 0.1) -> Tensor:
    """TUBA whose baseline is alpha parts of a batch's mean, eq. (15): less variance, more bias."""
    n = len(scores)
    own = torch.eye(n, dtype=torch.bool, device=scores.device)
    hidden = scores.masked_fill(own, -torch.inf)
    others = hidden.logsumexp(0) - math.log(n - 1)  # of each y, by the x that it does not belong to
    mixed = torch.logaddexp(others + math.log(alpha), base + math.log1p(-alpha))
    return 1 + nwj_of(scores - mixed)


BOUNDS: dict[str, Bound] = {
    "nwj": nwj, "tuba": tuba, "mine": mine, "infonce": infonce, "interpolated": interpolated
}  # fmt: skip


def measure_by_critic(x: Tensor, y: Tensor, settings: Variational, seed: int) -> float:
    """The bound on a third of the rows, by a critic that the others trained.

    The critic of most nats on a half of that third is judged by the other half, so that what is
    told is a bound in the mean, but for MINE's logarithm.

    Blind: few rows train no critic, and none tells more than about the log of how many rows judge.

    Raises
    ------
    EstimationError : the critic's training diverges.
    """
    bound = BOUNDS[settings.BOUND]
    x, y = x.float(), y.float()
    held = len(x) // HELD_OUT
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)
        critic = Critic(x.shape[1], y.shape[1], settings.width).to(x.device)
    optimiser = torch.optim.Adam(critic.parameters(), lr=settings.lr)
    chosen, best = -math.inf, 0.0
    size = min(settings.batch_size, len(x) - held)
    for step in range(settings.steps):
        rows = held + torch.randperm(len(x) - held, generator=generator)[:size].to(x.device)
        optimiser.zero_grad()
        loss = -bound(*critic(x[rows], y[rows]))
        torch.autograd.backward(loss)
        optimiser.step()
        if (step + 1) % settings.every == 0 or step + 1 == settings.steps:
            picks, judges = (_judged(critic, bound, x, y, h, size) for h in _halves(held))
            if not math.isfinite(picks) or not torch.isfinite(loss):
                raise EstimationError(
                    f"the critic of {settings.BOUND} diverges at step {step + 1}.\nExpected a "
                    f"finite bound; lower lr, which is {settings.lr:g}."
                )
            if picks > chosen:
                chosen, best = picks, judges
    return best


def _halves(held: int) -> tuple[range, range]:
    return range(held // 2), range(held // 2, held)


def _judged(critic: Critic, bound: Bound, x: Tensor, y: Tensor, rows: range, size: int) -> float:
    """The mean over batches of rows that trained nothing."""
    found = []
    with torch.no_grad():
        for start in range(rows.start, rows.stop, size):
            part = slice(start, min(start + size, rows.stop))
            if part.stop - part.start > 1:
                found.append(float(bound(*critic(x[part], y[part]))))
    return sum(found) / max(len(found), 1)


def _log_mean_apart(scores: Tensor) -> Tensor:
    """Log of the mean of exp over pairs that do not belong together."""
    n = len(scores)
    own = torch.eye(n, dtype=torch.bool, device=scores.device)
    return scores.masked_fill(own, -torch.inf).flatten().logsumexp(0) - math.log(n * (n - 1))


MINE = direct_estimator(Mine, measure_by_critic)
INFONCE = direct_estimator(InfoNCE, measure_by_critic)
OF_NWJ = direct_estimator(NWJ, measure_by_critic)
OF_TUBA = direct_estimator(TUBA, measure_by_critic)
INTERPOLATED = direct_estimator(Interpolated, measure_by_critic)
