"""The clock on a real network: what it measures, how often, and that it leaves no trace."""

import copy

import numpy as np
import pytest
import torch
from oracles import build_own, own_images

from mipp.graph import build_graph
from mipp.latency import Clock
from mipp.selection.selection import keep_all

CPU = torch.device("cpu")


def clock_of(name, batch=2):
    model, images = build_own(name), own_images(1)
    return Clock(model, tuple(images.shape[1:]), batch, CPU), build_graph(model, images)


@pytest.mark.parametrize("name", ["depthwise", "dense_blocks", "gated", "tokens"])
def test_every_module_that_can_shrink_has_times_that_rise(name):
    clock, graph = clock_of(name)
    curves = clock.measured(graph).latency.curves
    named = dict(clock.model.named_modules())
    assert curves.keys() == {
        cost.module
        for cost in graph.costs
        if (cost.inputs or cost.outputs) and cost.module in named
    }
    for curve in curves.values():
        assert curve.ms.shape == (len(curve.inputs), len(curve.outputs))
        assert curve.ms.min() > 0
        assert np.diff(curve.ms, axis=0).min(initial=0) >= 0
        assert np.diff(curve.ms, axis=1).min(initial=0) >= 0


def test_prediction_never_falls_with_a_width():
    clock, graph = clock_of("dense_blocks")
    graph = clock.measured(graph)
    for group, width in graph.widths.items():
        times = [graph.milliseconds({**graph.widths, group: k}) for k in range(1, width + 1)]
        assert times == sorted(times)


def test_measuring_leaves_network_and_random_state_as_they_were():
    clock, graph = clock_of("depthwise")
    before, state = copy.deepcopy(clock.model.state_dict()), torch.random.get_rng_state()
    clock.model.train()
    clock.measured(graph)
    clock.least_share(graph, dict.fromkeys(graph.widths, 0))
    assert all(torch.equal(before[k], v) for k, v in clock.model.state_dict().items())
    assert all(m.training and not m._forward_hooks for m in clock.model.modules())
    assert torch.equal(torch.random.get_rng_state(), state)


class Stopwatch:
    """Stands for `latencies_ms`: the time that a pass takes is made up, the calls recorded."""

    def __init__(self, *ms):
        self.ms, self.calls = ms, []

    def __call__(self, models, shape, *, batch, repeats, device, warm_ups):
        self.calls.append((len(models), batch, repeats, warm_ups))
        return list(self.ms[: len(models)])


@pytest.mark.parametrize(
    ("ms", "turns", "warm_ups"),
    [(1.0, 101, 3), (100.0, 50, 3), (400.0, 12, 3), (2000.0, 3, 1), (9000.0, 3, 1)],
)
def test_turns_fill_ten_seconds_within_bounds(monkeypatch, ms, turns, warm_ups):
    watch = Stopwatch(ms, 0.7 * ms)
    monkeypatch.setattr("mipp.latency.clock.latencies_ms", watch)
    clock, graph = clock_of("depthwise", batch=7)
    assert clock.share(keep_all(graph.widths)) == pytest.approx(0.7)
    assert watch.calls == [(1, 7, 1, 1), (2, 7, turns, warm_ups)]


def test_circumstances_are_batch_device_and_threads():
    clock, _ = clock_of("depthwise", batch=7)
    assert clock.circumstances() == {
        "batch": 7,
        "device": f"cpu, {torch.get_num_threads()} threads",
    }


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_is_measured_and_named():
    gpu = torch.device("cuda")
    clock, graph = clock_of("depthwise")
    clock = Clock(clock.model.to(gpu), clock.shape, 2, gpu)
    graph = build_graph(clock.model, own_images(1).to(gpu))
    assert clock.measured(graph).milliseconds(graph.widths) > 0
    assert clock.circumstances()["device"] == torch.cuda.get_device_name(gpu)
