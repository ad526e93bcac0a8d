"""Which processor the tensors live on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import torch
from torch import nn

from mipp.errors import DeviceError, option

KEY = "compute.device"
MEMINFO = Path("/proc/meminfo")
CGROUPS = tuple(
    (Path("/sys/fs/cgroup") / limit, Path("/sys/fs/cgroup") / used)
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    )
)


def resolve_device(name: str) -> torch.device:
    """Device of that name; `auto` is the GPU where there is one, else the CPU.

    Parameters
    ----------
    name : `auto`, `cpu`, `cuda`, or `cuda:N` for the N-th GPU from 0.

    Raises
    ------
    DeviceError : the name is unknown, or names a GPU that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise DeviceError(
            f"device {name!r} ({option(KEY)}) is unknown.\n"
            f"Expected auto, cpu, cuda or cuda:N, got {name!r}; "
            "auto takes the GPU where there is one."
        )
    device = torch.device(name)
    if device.type == "cuda":
        _require_gpu(name, device.index or 0)
    return device


def require_devices(name: str, count: int) -> None:
    """Refuse to train on more devices than there are.

    Parameters
    ----------
    name : as `resolve_device` takes it; of the CPU any number of processes may be.

    Raises
    ------
    DeviceError : the name is of one GPU alone, or there are fewer.
    """
    device = resolve_device(name)
    if count == 1 or device.type == "cpu":
        return
    if device.index is not None:
        raise DeviceError(
            f"compute.devices={count} cannot all be {name!r}.\nExpected compute.device auto, cpu "
            f"or cuda, got one GPU; set compute.device=cuda for the first {count}."
        )
    if count > torch.cuda.device_count():
        raise DeviceError(
            f"compute.devices={count} are not on this machine.\nExpected at least {count} CUDA "
            f"GPUs, got {torch.cuda.device_count()}; lower compute.devices."
        )


def device_of(model: nn.Module) -> torch.device:
    """Where a network's tensors are; the CPU for one that has none."""
    tensors = chain(model.parameters(), model.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def dtype_of(model: nn.Module) -> torch.dtype:
    """What a network computes in, by its first floating-point parameter; else float32."""
    kinds = (parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    return next(kinds, torch.float32)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all queued work; on the CPU none is ever queued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def free_bytes(device: torch.device) -> int | None:
    """Memory that is free on the device, for a CPU of the machine; None where nobody says."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    limits = [_available(), *(_left(*files) for files in CGROUPS)]
    return min((limit for limit in limits if limit is not None), default=None)


def _available() -> int | None:
    """What Linux would give without swapping."""
    if not MEMINFO.exists():
        return None
    found = re.search(r"^MemAvailable:\s*(\d+) kB", MEMINFO.read_text(), re.MULTILINE)
    return 1024 * int(found[1]) if found else None


def _left(limit: Path, used: Path) -> int | None:
    """What a container may still take."""
    try:
        return max(int(limit.read_text()) - int(used.read_text()), 0)
    except (OSError, ValueError):  # there is none: no such file, or "max"
        return None


@contextmanager
def divided_threads(workers: int) -> Iterator[None]:
    """Threads that start in the block, `workers` at once, have torch's threads between them.

    Sums are rounded in an order that depends on how many threads add them up, so that work is
    shared out by one rule, whoever does it. And a thread that computes with many of them holds
    them for as long as it lives, which slows small tensors down in all others.
    """
    count = torch.get_num_threads()
    torch.set_num_threads(threads_each(workers))
    try:
        yield
    finally:
        torch.set_num_threads(count)


def threads_each(workers: int) -> int:
    """Of torch's threads, for each of so many workers."""
    return max(1, torch.get_num_threads() // workers)


def describe_device(device: torch.device) -> str:
    """Name of the device, of a CPU the number of threads: what a measured time depends on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads"


def _require_gpu(name: str, index: int) -> None:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index < count:
        return
    if torch.version.cuda is None:
        mend = f"install a CUDA build of torch, or set {option(KEY)} to auto or cpu."
    elif count == 0:
        mend = f"check that nvidia-smi lists a GPU, or set {option(KEY)} to auto or cpu."
    else:
        mend = f"choose cuda:0 to cuda:{count - 1}, or set {option(KEY)} to auto."
    raise DeviceError(
        f"device {name!r} ({option(KEY)}) is not on this machine.\n"
        f"Expected at least {index + 1} CUDA GPU, got {count} (torch {torch.__version__}); {mend}"
    )
