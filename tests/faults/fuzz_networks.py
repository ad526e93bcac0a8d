"""Rows that no network would give, and calls of `mipp.prune` with generated networks."""

import warnings

import torch
from torch import nn

import mipp
from mipp.information.estimators import ESTIMATORS, PairData
from mipp.settings import Gaussian
from tests.pruning.hostile_arguments import ARGUMENTS
from tests.pruning.hostile_batches import BATCHES

FINITE = (0.0, 1.0, -1.0, 1e-30, 1e30, 3e38)  # others are refused where rows are captured
VALUES = (*FINITE, float("nan"), float("inf"), -float("inf"))
QUICK = [key for key in BATCHES if key not in ("endless", "endless empty", "a stream")]


def rows(rng):
    """Information of any rows is finite, and no channel alone tells more than all together."""
    n, channels, block = rng.randrange(1, 40), rng.randrange(1, 5), rng.randrange(1, 4)
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    x = torch.randn(n, channels, block, generator=generator)
    y = torch.randn(n, rng.randrange(1, 4), generator=generator) + x[:, :1, 0]
    for part in rng.sample((x, y), rng.choice((0, 1, 1, 2))):
        _spoil(rng, part, FINITE)
    data = PairData("up--down", n, channels, block, lambda: [(x, y)])
    settings = Gaussian(ridge=rng.choice((1e-6, 1e-3, 1.0)), resolution=rng.choice((1e-6, 0.3)))
    gaussian = ESTIMATORS["gaussian"]
    state = gaussian.prepare(data, settings, 0)
    information = gaussian.answers(state, data, settings, 0)
    targets = torch.arange(y.shape[1])
    single, joint = information.single(targets), information.joint(targets)
    assert single.shape == (channels,)
    assert bool(single.isfinite().all())
    assert abs(joint) < float("inf")
    assert float(single.max()) <= joint * (1 + 1e-3) + 1e-3
    loss = information.eliminate(targets).loss(rng.randrange(channels))
    assert -1e-3 <= loss <= joint * (1 + 1e-3) + 1e-3


def _spoil(rng, part, values=VALUES):
    kind = rng.choice(("one", "column", "all", "copies", "scale", "whole numbers"))
    if kind == "one":
        part.view(-1)[rng.randrange(part.numel())] = rng.choice(values)
    elif kind == "column":
        part[:, rng.randrange(part.shape[1])] = rng.choice(values)
    elif kind == "all":
        part.fill_(rng.choice(values))
    elif kind == "copies":
        part.copy_(part[:, :1].expand_as(part).clone())
    elif kind == "scale":
        part.mul_(rng.choice((1e-20, 1e-6, 1e6, 1e18)))
    else:
        part.round_()


class _Residual(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.a, self.b = nn.Conv2d(width, inner, 3, padding=1), nn.Conv2d(inner, width, 1)

    def forward(self, x):
        return x + self.b(self.a(x).relu())


def network(rng):
    """Convolutions, norms, streams and linear layers in an order that runs, some spoilt."""
    width, layers = 3, []
    for _ in range(rng.randrange(1, 4)):
        out = rng.choice((1, 2, 4, 6))
        groups = rng.choice([g for g in (1, 1, 2, 3) if width % g == 0 and out % g == 0])
        layers.append(nn.Conv2d(width, out, rng.choice((1, 3)), padding=1, groups=groups))
        layers += rng.choice(
            (
                [],
                [nn.BatchNorm2d(out), nn.ReLU()],
                [nn.ReLU6()],
                [nn.GroupNorm(1, out), nn.GELU()],
                [nn.InstanceNorm2d(out), nn.Sigmoid()],
                [nn.PReLU(out), nn.Dropout(0.5)],
                [_Residual(out, 3)],
            )
        )
        width = out
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if rng.random() < 0.5:
        layers += [nn.Linear(width, 5), nn.LayerNorm(5), nn.ReLU()]
        width = 5
    model = nn.Sequential(*layers, nn.Linear(width, 4))
    for parameter in model.parameters():
        if rng.random() < 0.03:
            _spoil(rng, parameter.data.view(parameter.shape[0], -1))
    return model.train(rng.random() < 0.5)


def calls(rng):
    """What `mipp.prune` gives keeps to its budget and runs where the given network does."""
    torch.manual_seed(rng.randrange(2**31))
    model = network(rng)
    batches = BATCHES["sound" if rng.random() < 0.6 else rng.choice(QUICK)]()
    arguments = rng.choice(ARGUMENTS) if rng.random() < 0.4 else {}
    method = rng.choice(("mipp", "mipp", "l1", "taylor", "random"))
    arguments = {"budget": f"macs:{rng.uniform(0.2, 1):.2f}", "method": method, **arguments}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what torch says to such calls
        found = mipp.prune(model, batches, **arguments)
    example = torch.randn(2, 3, 6, 6)
    with torch.no_grad():
        before, after = model.eval()(example), found.model.eval()(example)
    assert after.shape == before.shape
    assert bool(after.isfinite().all()) or not bool(before.isfinite().all())
    kind, _, share = str(arguments["budget"]).strip().lower().partition(":")
    if kind.strip() == "macs":
        assert found.report.macs <= (float(share) + 0.02) * found.report.macs_dense
