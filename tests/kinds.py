"""Small networks of a kind, and what must hold of each as a user gets it by default."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from oracles import assert_zeroing, enliven_norms, in_one, random_selection
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import mipp
from mipp.cut import apply_selection
from mipp.graph import build_graph
from mipp.selection.selection import Selection

IMAGES = 16


@dataclass(frozen=True)
class Kind:
    """A network, the shape of an input, and the share of its MACs that one channel each costs."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    least: float


def built(kind, seed):
    """The network with lively statistics in double precision, and inputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind.build().double().eval()
        enliven_norms(model, seed)
        return model, torch.randn(IMAGES, *kind.shape).double()


def flops(model, x):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(x)
    return counter.get_total_flops()


def assert_cut_is_zeroing(kind, seed):
    model, x = built(kind, seed)
    graph = build_graph(model, x[:1])
    assert_zeroing(model, graph, random_selection(graph, seed), x)


def assert_least_share(kind):
    model, x = built(kind, 0)
    widths = build_graph(model, x[:1]).widths
    one = Selection(dict.fromkeys(widths, np.array([0])), dict(widths), "first")
    assert flops(apply_selection(model, one, x[:1]), x) <= kind.least * flops(model, x)


def assert_default_prunes(kind, folder):
    """The budget is met, the repair is none worse than none, it comes back, and it trains."""
    model, x = built(kind, 0)
    budget = 0.5 if kind.least < 0.5 else (1 + kind.least) / 2
    pruner = mipp.Pruner(model, [x], images=IMAGES)
    plan = pruner.plan(f"macs:{budget}")
    bare, found = (pruner.cut(plan, repair) for repair in (mipp.NoRepair(), mipp.Refit()))
    assert flops(found.model, x) <= budget * flops(model, x)
    with torch.no_grad():
        networks = (model, bare.model, found.model)
        wanted, given, after = (in_one(network.eval()(x)) for network in networks)
    assert (after - wanted).square().mean() <= (given - wanted).square().mean()
    saved = mipp.Checkpoint(found.model, None, found.selection, kind.shape)
    mipp.save_checkpoint(folder / "pruned.safetensors", saved)
    again = mipp.load_checkpoint(folder / "pruned.safetensors", lambda: built(kind, 0)[0]).model
    with torch.no_grad():
        torch.testing.assert_close(in_one(again.eval()(x)), after)
    in_one(found.model.train()(x)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in found.model.parameters())


def checks_of(kinds):
    """The three tests that every kind of a table has to pass."""
    of_each = pytest.mark.parametrize("name", kinds)

    @of_each
    def cut(name, seed):
        assert_cut_is_zeroing(kinds[name], seed)

    @of_each
    def least(name):
        assert_least_share(kinds[name])

    @of_each
    def default(name, tmp_path):
        assert_default_prunes(kinds[name], tmp_path)

    return cut, least, default
