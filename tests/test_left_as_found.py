"""What mipp changes of a network for a while is as it was, wherever the work is broken off."""

import functools
from importlib import import_module
from itertools import count

import numpy as np
import pytest
import torch
from torch import nn

from mipp.activations import Sampling, capture_rows, capture_whole
from mipp.axes import faster_order
from mipp.config import OptimConfig
from mipp.criteria.shared.calibrated_steps import normalising_by_batch
from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.image_gates import slopes_by_image
from mipp.cut import apply_selection
from mipp.distill import distill
from mipp.distill.matched import inputs_caught
from mipp.evaluation import evaluating, forget
from mipp.finite import require_finite_activations
from mipp.graph import build_graph
from mipp.graph.passes import IN_TRAINING, own_pass
from mipp.graph.pixels import pixel_pairs
from mipp.graph.projections import with_projections
from mipp.graph.trail import run_once
from mipp.hooked_mode import Hooked
from mipp.information.estimators import ESTIMATORS, PairData
from mipp.latency.widths import parts_of
from mipp.layers.attention import Attention
from mipp.metrics import latencies_ms
from mipp.multiplying import Multiplications
from mipp.refit import RefitSettings, recalibrate, refit
from mipp.refit.rebase import NormInputs
from mipp.selection.selection import Selection, keep_all
from mipp.settings import Distill
from mipp.stages.plane import values_read
from mipp.training import train
from tests.images_in_memory import InMemory

SAMPLING = Sampling(rows=64, images=8, seed=0)


class Broken(KeyboardInterrupt):
    """Ctrl-C."""


class Fuse(nn.Module):
    """Hands on what it is given, until it is lit."""

    lit = False

    def forward(self, x):
        if self.lit:
            raise Broken
        return x


def network():
    """In training, but for a frozen batch-norm; of unusual momenta."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32, momentum=0.3), nn.ReLU()),
        *(nn.Conv2d(32, 32, 3), nn.BatchNorm2d(32, momentum=0.7), nn.ReLU(), Fuse()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5)),
    ).train()
    net[1].eval()
    net[1].requires_grad_(False)
    return net


@functools.cache
def graph():
    return build_graph(network().eval(), images()[:1])


def images():
    return torch.rand(8, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def state(net):
    """All of a network but the values of its tensors, and what torch does globally."""
    parts = {
        name: (
            module.training,
            getattr(module, "momentum", None),
            [len(h) for h in (module._forward_hooks, module._forward_pre_hooks)],
            "forward" in vars(module),
            [(p.requires_grad, p.is_contiguous()) for p in module.parameters(recurse=False)],
        )
        for name, module in net.named_modules()
    }
    fast = torch.backends.mha.get_fastpath_enabled()
    return parts, fast, torch.is_grad_enabled(), torch.is_inference_mode_enabled()


def caught(net):
    with inputs_caught(net, {"0": None, "3": None}):
        net(images())


def normed(net):
    with NormInputs(net).seen():
        net(images())


def counted(net):
    with Multiplications():
        net(images())


def by_batch(net):
    with normalising_by_batch(net):
        net(images())


def sloped(net):
    labels = torch.zeros(8, dtype=torch.long)
    given = CriterionInput(net, graph(), lambda: [(images(), labels)], 0)
    slopes_by_image(given, images(), labels)


WORKS = {
    "recalibrate": lambda net: recalibrate(net, [images()]),
    "run once": lambda net: run_once(net, images()[:1]),
    "graph": lambda net: build_graph(net, images()[:1]),
    "pixels": lambda net: pixel_pairs(net, graph(), images()[:1]),
    "finite": lambda net: require_finite_activations(net, images()),
    "whole": lambda net: list(capture_whole(net, ["0", "3"], "inputs", [images()])),
    "rows": lambda net: list(capture_rows(net, graph().pairs, [images()], SAMPLING)),
    "plane": lambda net: values_read(net, [images()], 8),
    "inputs": caught,
    "norms": normed,
    "parts": lambda net: parts_of(net, graph(), images()),
    "slopes": sloped,
    "multiplications": counted,
    "by batch": by_batch,
}
WITHOUT_HOOKS = ("recalibrate", "multiplications", "by batch")


@pytest.mark.parametrize("work", WORKS)
def test_forward_that_breaks_off_leaves_the_network_as_it_was(work):
    net = network()
    before = state(net)
    net[6].lit = True
    with pytest.raises(Broken):
        WORKS[work](net)
    assert state(net) == before


@pytest.mark.parametrize("work", [work for work in WORKS if work not in WITHOUT_HOOKS])
def test_hooks_that_are_broken_off_leave_none_behind(work, monkeypatch):
    net = network()
    graph()
    before = state(net)
    numbers = count()

    def breaking(register):
        def registered(*arguments, **options):
            if next(numbers) == 1:
                raise Broken
            return register(*arguments, **options)

        return registered

    for name in ("register_forward_hook", "register_forward_pre_hook"):
        monkeypatch.setattr(nn.Module, name, breaking(getattr(nn.Module, name)))
    with pytest.raises(Broken):
        WORKS[work](net)
    assert state(net) == before


class Attending(nn.Module):
    """Two attentions of other tokens, which are looked at with hooks of their own."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(2))

    def forward(self, x):
        y = x.flip(1)
        return self.second(self.first(x, y, y)[0], y, y)[0]


def test_attentions_that_are_broken_off_run_as_they_did(monkeypatch):
    net, numbers, twin = Attending().train(), count(), Attention.twin
    before = state(net)

    def broken(layer):
        if next(numbers) == 1:
            raise Broken
        return twin(layer)

    monkeypatch.setattr(Attention, "twin", broken)
    with pytest.raises(Broken):
        with_projections(net, torch.rand(1, 4, 8))
    assert next(numbers) == 2  # the first had its twin already
    assert state(net) == before


class Stubborn(nn.Sequential):
    """Breaks off where it changes its mode, its first part being in the other one already."""

    def train(self, mode=True):
        self[0].train(mode)
        raise Broken


@pytest.mark.parametrize(
    ("training", "change"),
    [(True, lambda net: evaluating(net).__enter__()), (False, forget)],
    ids=["evaluating", "forget"],
)
def test_change_of_mode_that_is_broken_off_is_undone(training, change):
    net = Stubborn(nn.Dropout(), nn.Dropout())
    net.table = torch.zeros(1)  # kept of earlier calls
    for module in net.modules():
        module.training = training
    with pytest.raises(Broken):
        change(net)
    assert {module.training for module in net.modules()} == {training}


def test_batches_that_break_off_leave_momentum_and_modes():
    net = network()
    before = state(net)

    def batches():
        yield images()
        assert net[1].momentum is None  # it takes the mean of all batches meanwhile
        raise Broken

    with pytest.raises(Broken):
        recalibrate(net, batches())
    assert state(net) == before


def pruned():
    """A dense network in eval mode, its pruned copy, and the selection."""
    dense = network().eval()
    everything = keep_all(graph().widths)
    kept = {**everything.kept, next(iter(graph().groups)): np.arange(16)}
    selection = Selection(kept, graph().widths, "test")
    return dense, apply_selection(dense, selection, images()[:1]), selection


def test_distillation_that_is_broken_off_leaves_momentum_modes_and_order(monkeypatch):
    dense, cut, selection = pruned()
    cut.requires_grad_(True)
    before = state(dense), state(cut)
    seen = []

    def broken(model, *_):
        seen.append([model[4].training, model[4].momentum, model[3].weight.is_contiguous()])
        raise Broken

    monkeypatch.setattr(import_module("mipp.distill.distill"), "loss_of", broken)
    ones = list(images().split(1))
    with pytest.raises(Broken):
        distill(cut, dense, graph(), selection, ones[:6], ones[6:], Distill(steps=4), 0)
    assert seen == [[True, 0.1, False]]
    assert (state(dense), state(cut)) == before


def test_training_that_is_broken_off_leaves_eval_mode_order_and_no_gradients(monkeypatch):
    net = network()
    seen = []

    def broken(*_):
        order = torch.channels_last
        seen.append([net.training, net[3].weight.is_contiguous(memory_format=order)])
        assert net[3].weight.grad is not None
        raise Broken

    monkeypatch.setattr(import_module("mipp.training.epoch"), "_step", broken)
    split = InMemory(images(), torch.arange(8) % 5)
    config = OptimConfig(epochs=2, batch_size=8, channels_last=True)
    with pytest.raises(Broken):
        train(net, split, split.at([]), config, seed=0, device=torch.device("cpu"))
    assert seen == [[True, True]]
    assert not any(module.training for module in net.modules())
    assert all(p.is_contiguous() and p.grad is None for p in net.parameters())


def test_refit_that_is_broken_off_between_layers_leaves_no_hooks(monkeypatch):
    dense, cut, selection = pruned()
    before = state(dense), state(cut)

    def broken(layers, **_):
        yield next(layers)
        raise Broken

    monkeypatch.setattr(import_module("mipp.refit.refit"), "track", broken)
    settings = RefitSettings(ridge=1e-2, sampling=SAMPLING)
    with pytest.raises(Broken) as held:  # whose frames live on, as those of a notebook do
        refit(cut, dense, graph(), selection, lambda: [images()], settings)
    assert held.tb is not None
    assert (state(dense), state(cut)) == before


def test_order_that_is_tried_in_vain_is_undone():
    net = network()
    before = state(net)

    def broken():
        assert not net[3].weight.is_contiguous()
        raise Broken

    with pytest.raises(Broken):
        faster_order(net, broken)
    assert state(net) == before


class Heavy(nn.Linear):
    """Does not fit on a device, once the first of its parts is there."""

    def __init__(self):
        super().__init__(3, 2)
        self.asked = []

    def to(self, device):
        self.asked.append(device)
        if len(self.asked) == 1:
            raise torch.OutOfMemoryError
        return super().to(device)


def test_network_that_does_not_fit_on_a_device_goes_home():
    net, device = Heavy(), torch.device("cpu", 0)
    with pytest.raises(torch.OutOfMemoryError):
        latencies_ms([net], (3,), batch=1, repeats=1, device=device)
    assert net.asked == [device, torch.device("cpu")]


class Drawing(nn.Module):
    """Draws in each call."""

    def forward(self, x):
        return x + torch.rand(1)

    def again(self, x):
        return self(x)


DRAWING = Drawing()


def estimated(kind):
    estimator = ESTIMATORS[kind]
    settings = estimator.settings(rows=200, steps=2)
    x = torch.randn(200, 2, 1, generator=torch.Generator().manual_seed(0))
    data = PairData("rows", 200, 2, 1, lambda: [(x, x[:, 0])])
    state = estimator.prepare(data, settings, 0)
    return estimator.answers(state, data, settings, 0).joint(torch.arange(1))


@pytest.mark.parametrize(
    "work",
    [
        *(functools.partial(estimated, kind) for kind in ("dime", "infonce", "diffusion")),
        lambda: own_pass(DRAWING, "again").run(DRAWING, torch.zeros(1, 3)),
        lambda: IN_TRAINING.run(nn.Sequential(DRAWING), torch.zeros(1, 3)),
    ],
    ids=["dime", "infonce", "diffusion", "calls", "in train mode"],
)
def test_what_is_seeded_leaves_the_generators_of_every_device(work, monkeypatch):
    """Also of GPUs that no tensor is on: torch.manual_seed seeds all that there are."""
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        assert seeded == [7]
        before = torch.get_rng_state()
        work()
        assert torch.equal(torch.get_rng_state(), before)
    assert seeded == [7]


class Unready:
    """A mode that fails to begin."""

    def __enter__(self):
        raise Broken


class Watching(Hooked, Unready):
    """Such a mode with a hook."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def hooks(self):
        yield self.module.register_forward_hook(print)


def test_mode_that_fails_to_begin_leaves_no_hooks():
    net = network()
    before = state(net)
    with pytest.raises(Broken):
        Watching(net[0]).__enter__()
    assert state(net) == before
