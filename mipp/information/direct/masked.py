"""Predictors that see some columns of a row, and are told which: trained on all subsets at once."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mipp.direct_settings import Dime
from mipp.errors import EstimationError

HELD_OUT = 3  # a third of the rows judges
CLASSES = 32  # so many different rows of targets are labels, more are numbers
LEAST = -8.0  # log of the least variance: a target that is known tells 4 nats


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


def train(x: Tensor, y: Tensor, settings: Dime, seed: int) -> tuple[Tensor, Masked, Masked]:
    """The labels, the predictor and the value network.

    Of every row of a minibatch a random subset of columns is known. The predictor is trained on the
    loss of the targets, the other on what that falls by when one more column is known; held-out
    rows say which step's predictor is best.

    Parameters
    ----------
    x, y : (n, channels, block) and (n, m); the first third of the rows is held out.

    Raises
    ------
    EstimationError : the training diverges.
    """
    (n, channels, block), held = x.shape, len(x) // HELD_OUT
    different: Tensor = y.unique(dim=0)  # type: ignore[no-untyped-call]
    classes = different if len(different) <= min(CLASSES, n / 10) else y[:0]
    outputs = len(classes) or 2 * y.shape[1]
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)
        networks = [Masked(channels, block, k, settings.width) for k in (outputs, channels)]
    predictor, value = (network.to(x.device) for network in networks)
    optimiser = torch.optim.Adam([*predictor.parameters(), *value.parameters()], settings.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    judge = random_subsets(held, channels, generator).to(x)
    loss_of = partial(losses, classes=classes, targets=torch.arange(y.shape[1], device=x.device))
    best, kept = math.inf, predictor.state_dict()
    size = min(settings.batch_size, n - held)
    for step in range(1, settings.steps + 1):
        at = held + torch.randperm(n - held, generator=generator, device="cpu")[:size].to(x.device)
        known = random_subsets(size, channels, generator).to(x)
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
    return classes, predictor.requires_grad_(False), value.requires_grad_(False)


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


def random_subsets(rows: int, channels: int, generator: torch.Generator) -> Tensor:
    """Of every size as often, drawn at random, as 1 and 0; (rows, channels)."""
    sizes = torch.randint(channels + 1, (rows, 1), generator=generator, device="cpu")
    jitter = torch.rand(rows, channels, generator=generator, device="cpu")
    places = jitter.argsort(1).argsort(1)
    return (places < sizes).float()
