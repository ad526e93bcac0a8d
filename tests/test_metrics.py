"""Metrics agree with hand counts, and leave the network as they found it."""

from __future__ import annotations

import math
import time

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from mipp.errors import DataError, ModelError
from mipp.metrics import accuracy, accuracy_and_loss, count_macs, count_params, latencies_ms
from tests.images_in_memory import InMemory

CPU = torch.device("cpu")


class Sleeper(nn.Module):
    """Sleeps, and writes its name into a log that others share."""

    def __init__(self, name: str, seconds: float, log: list[str]) -> None:
        super().__init__()
        self.name, self.seconds, self.log = name, seconds, log

    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        assert torch.is_inference_mode_enabled()
        self.log.append(self.name)
        time.sleep(self.seconds)
        return images


class Bare(nn.Module):
    """A linear layer whose module is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.linear.weight, self.linear.bias)


class Attends(nn.Module):
    """Two heads of attention without projections."""

    def __init__(self, style: str) -> None:
        super().__init__()
        self.style = style

    def forward(self, x: Tensor) -> Tensor:
        q = x.view(*x.shape[:2], 2, -1).transpose(1, 2)
        if self.style == "fused":
            return functional.scaled_dot_product_attention(q, q, q)
        if self.style == "einsum":
            shares = torch.einsum("nhqd,nhkd->nhqk", q, q).softmax(-1)
            return torch.einsum("nhqk,nhkd->nhqd", shares, q)
        return (q @ q.transpose(-2, -1)).softmax(-1) @ q


class SelfAttention(nn.MultiheadAttention):
    def __init__(self) -> None:
        super().__init__(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, x, x, need_weights=False)[0]


def lenet_300_100() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(),
        nn.Linear(100, 10),
    )  # fmt: skip


def four_images() -> InMemory:
    # Two logits per image, which an identity network hands on; the third label is wrong.
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 0.0]])
    return InMemory(logits, torch.tensor([0, 1, 1, 0]))


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_accuracy_is_the_share_of_right_answers(batch_size: int) -> None:
    share = accuracy(nn.Identity(), four_images(), batch_size=batch_size, device=CPU)
    assert share == 3 / 4


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_loss_is_the_mean_cross_entropy_in_nats(batch_size: int) -> None:
    _, loss = accuracy_and_loss(nn.Identity(), four_images(), batch_size=batch_size, device=CPU)
    # ln(1 + exp(other - own)), image by image
    expected = [math.log1p(math.exp(gap)) for gap in (-2, -1, 3, 0)]
    assert loss == pytest.approx(sum(expected) / 4, rel=1e-6)


def test_accuracy_of_an_empty_split_is_refused() -> None:
    empty = InMemory(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(DataError, match=r"at least 1 image, got 0; raise data\.validation"):
        accuracy(nn.Identity(), empty, batch_size=4, device=CPU)


def test_accuracy_measures_in_eval_mode_and_restores_each_module() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5))
    model.train()
    model[0].eval()  # frozen statistics
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert accuracy(model, four_images(), batch_size=4, device=CPU) == 3 / 4
    assert [model.training, model[0].training, model[1].training] == [True, False, True]
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())


def test_lenet_300_100_has_its_published_size() -> None:
    # 784*300 + 300 + 300*100 + 100 + 100*10 + 10
    assert count_params(lenet_300_100()) == 266_610


def test_lenet_300_100_has_its_published_macs() -> None:
    # 784*300 + 300*100 + 100*10
    assert count_macs(lenet_300_100(), (1, 28, 28)) == 266_200


def test_params_leave_out_buffers_and_count_shared_ones_once() -> None:
    linear = nn.Linear(3, 3)
    assert count_params(nn.Sequential(linear, nn.BatchNorm1d(3), linear)) == 12 + 6


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        # 9 -> floor((9 + 2*1 - 3) / 2) + 1 = 5 places a side, 4/2 inputs * 3*3 taps, 6 outputs
        (nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), (4, 9, 9), 6 * 5 * 5 * 2 * 3 * 3),
        # dilation 2 makes 3 taps span 5: 9 - 4 = 5 places
        (nn.Conv1d(2, 3, 3, dilation=2), (2, 9), 3 * 5 * 2 * 3),
        (nn.Conv3d(1, 2, 2), (1, 3, 3, 3), 2 * 2**3 * 2**3),
        # 3*3 input places, each of 4 channels spread over 6/2 outputs * 2*2 taps
        (nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), (4, 3, 3), 4 * 3 * 3 * 3 * 2 * 2),
        (nn.Linear(8, 5), (7, 8), 7 * 8 * 5),  # 7 tokens
        (nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(3)), (4, 9, 9), 0),
        # 4 gates of 5 units, each of 3 inputs and 5 states, at 7 steps, in both directions
        (nn.LSTM(3, 5, batch_first=True, bidirectional=True), (7, 3), 2 * 7 * 4 * 5 * (3 + 5)),
        (nn.GRU(3, 5, 2, batch_first=True), (7, 3), 7 * 3 * 5 * ((3 + 5) + (5 + 5))),
        (Bare(), (6, 4), 6 * 4 * 5),
        (Attends("fused"), (6, 4), 2 * 6 * 6 * 4),  # queries with keys, shares with values
        (Attends("written out"), (6, 4), 2 * 6 * 6 * 4),
        (Attends("einsum"), (6, 4), 2 * 6 * 6 * 4),
        # three projections and one back, and the products of its heads
        (SelfAttention(), (6, 4), 6 * 4 * 3 * 4 + 6 * 4 * 4 + 2 * 6 * 6 * 4),
    ],
)
def test_macs_match_a_hand_count(layer: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    assert count_macs(layer, shape) == macs


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(6, 4, (3, 5), (2, 1), (0, 2), (2, 1)), (6, 11, 9)),
        (nn.ConvTranspose1d(6, 4, 3, 2), (6, 9)),
        (nn.Conv3d(6, 4, 3, padding=1, groups=2), (6, 4, 5, 6)),
        (nn.GRU(3, 5, batch_first=True), (7, 3)),
        (Attends("written out"), (6, 4)),
    ],
)
def test_macs_are_half_of_torchs_own_count(layer: nn.Module, shape: tuple[int, ...]) -> None:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer.eval()(torch.zeros(1, *shape))
    assert 2 * count_macs(layer, shape) == counter.get_total_flops()


def test_macs_count_every_call_of_a_shared_module() -> None:
    linear = nn.Linear(3, 3)
    assert count_macs(nn.Sequential(linear, nn.ReLU(), linear), (3,)) == 2 * 9


def test_counting_macs_leaves_the_network_as_found() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    count_macs(model, (3,))
    assert all(module.training and not module._forward_hooks for module in model.modules())
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())


def test_failed_count_leaves_no_hook_behind() -> None:
    model = nn.Linear(3, 3)
    with pytest.raises(ModelError, match="cannot be multiplied"):
        count_macs(model, (4,))
    assert not model._forward_hooks


def test_latency_is_at_least_the_time_slept() -> None:
    [milliseconds] = latencies_ms([Sleeper("a", 0.004, [])], (1,), batch=2, repeats=3, device=CPU)
    assert 4 <= milliseconds < 400


def test_latency_passes_the_batch_asked_for() -> None:
    shapes: list[torch.Size] = []
    model = nn.Identity()
    model.register_forward_hook(lambda _module, _inputs, output: shapes.append(output.shape))
    latencies_ms([model], (3, 8, 8), batch=5, repeats=1, device=CPU)
    assert set(shapes) == {(5, 3, 8, 8)}


def test_latency_pair_is_timed_in_turns() -> None:
    log: list[str] = []
    slow, fast = Sleeper("slow", 0.004, log).train(), Sleeper("fast", 0.0, log).train()
    slow_ms, fast_ms = latencies_ms([slow, fast], (1,), batch=1, repeats=5, device=CPU)
    assert log == ["slow", "fast"] * (len(log) // 2)
    assert slow_ms > fast_ms
    assert slow.training
    assert fast.training


def test_latency_is_the_median_not_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([9.0, 9.0, 9.0, 0.001, 0.002, 5.0])  # three warm-ups, one straggler
    monkeypatch.setattr("mipp.metrics._time", lambda *_: next(seconds))
    assert latencies_ms([nn.Identity()], (1,), batch=1, repeats=3, device=CPU)[0] == pytest.approx(
        2.0
    )


@pytest.mark.parametrize(("a_pass", "passes"), [(3.0, 3 + 5), (1.9, 3 + 8), (0.1, 3 + 15)])
def test_latency_takes_fewer_passes_of_long_ones(monkeypatch, a_pass, passes) -> None:
    clock, timed = [0.0], []

    def passed(*_):
        clock[0] += a_pass
        timed.append(a_pass)
        return a_pass

    monkeypatch.setattr("mipp.metrics._time", passed)
    monkeypatch.setattr("mipp.metrics.time.perf_counter", lambda: clock[0])
    [found] = latencies_ms([nn.Identity()], (1,), batch=1, repeats=15, device=CPU)
    assert len(timed) == passes
    assert found == pytest.approx(1000 * a_pass)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_metrics_on_the_gpu_leave_the_network_on_the_cpu() -> None:
    model, gpu = lenet_300_100(), torch.device("cuda")
    split = InMemory(torch.rand(8, 1, 28, 28), torch.zeros(8, dtype=torch.int64))
    on_cpu = accuracy_and_loss(model, split, batch_size=3, device=CPU)
    assert accuracy_and_loss(model, split, batch_size=3, device=gpu) == pytest.approx(on_cpu, 1e-4)
    assert latencies_ms([model], (1, 28, 28), batch=4, repeats=3, device=gpu)[0] > 0
    assert {parameter.device for parameter in model.parameters()} == {CPU}
