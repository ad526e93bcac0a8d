"""One network of the zoo by its name: pruned by this project, then by Torch-Pruning."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import torch

from benchmarks.validation.networks import networks
from benchmarks.validation.zoo_network import measure as measure_network
from benchmarks.validation.zoo_rival import measure_rival

# Once for all processes, and after torchvision, which they import.
for library in ("timm", "transformers", "torch.export", "torch_pruning"):
    import_module(library)


def measure(name: str, threads: int, export: bool) -> Iterator[dict[str, Any]]:
    """Columns of the row as they are known."""
    torch.set_num_threads(threads)
    network, started = networks()[name], time.perf_counter()
    yield from measure_network(network, export=export)
    yield {"rival": measure_rival(network)}
    yield {"wall": time.perf_counter() - started}
