"""Devices are resolved by name, and never replaced by another without a word."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mipp.device import device_of, dtype_of, resolve_device, synchronize
from mipp.errors import DeviceError


def pretend_gpus(monkeypatch: pytest.MonkeyPatch, count: int, *, build: str | None) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.version, "cuda", build)


@pytest.mark.parametrize(("gpus", "expected"), [(0, "cpu"), (1, "cuda")])
def test_auto_takes_the_gpu_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, gpus: int, expected: str
) -> None:
    pretend_gpus(monkeypatch, gpus, build="12.8")
    assert resolve_device("auto") == torch.device(expected)


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:0", "cuda:1"])
def test_present_device_is_taken_by_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pretend_gpus(monkeypatch, 2, build="12.8")
    assert resolve_device(name) == torch.device(name)


@pytest.mark.parametrize(
    ("gpus", "build", "mend"),
    [
        (0, None, "install a CUDA build"),
        (0, "12.8", "nvidia-smi"),
        (2, "12.8", "choose cuda:0 to cuda:1"),
    ],
)
def test_absent_gpu_is_refused_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, gpus: int, build: str | None, mend: str
) -> None:
    pretend_gpus(monkeypatch, gpus, build=build)
    with pytest.raises(DeviceError, match=rf"(?s)'cuda:2'.*at least 3 .*got {gpus} .*{mend}"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "CUDA", "cuda:", "cuda:-1", "mps", "cpu:0", ""])
def test_unknown_device_is_refused_with_the_choices(name: str) -> None:
    with pytest.raises(DeviceError, match=rf"Expected auto, cpu, cuda or cuda:N, got '{name}'"):
        resolve_device(name)


def test_synchronize_waits_for_the_gpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    synchronize(torch.device("cpu"))
    synchronize(torch.device("cuda:1"))
    assert waited == [torch.device("cuda:1")]


def test_device_and_dtype_are_those_of_a_network_s_tensors() -> None:
    meta = torch.device("meta")
    assert device_of(nn.Linear(2, 2, device=meta)) == meta
    assert device_of(nn.BatchNorm1d(2, affine=False, device=meta)) == meta  # buffers alone
    assert device_of(nn.ReLU()) == torch.device("cpu")
    assert dtype_of(nn.Linear(2, 2).double()) == torch.float64
    assert dtype_of(nn.ReLU()) == torch.float32
