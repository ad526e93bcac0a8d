"""Networks that earlier stages left, and their channel graphs.

train/model.safetensors     the dense network
train/narrow.safetensors    with narrower heads of its attentions, where there are any: what is
                            measured, cut, and what a repair restores
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from mipp.checkpoint import Checkpoint, load_checkpoint
from mipp.graph import ChannelGraph, LayerPair, build_graph, with_projections
from mipp.graph.pixels import pixel_pairs

NARROW = Path("train/narrow.safetensors")


def load_dense(workdir: Path, device: torch.device) -> Checkpoint:
    """The dense network that `train` left, in eval mode, with attentions that can be cut."""
    dense = load_network(workdir / "train/model.safetensors", device)
    example = torch.zeros(1, *dense.shape, device=device)
    return replace(dense, model=with_projections(dense.model, example))


def load_narrow(workdir: Path, device: torch.device) -> Checkpoint:
    """The dense network with narrower heads, or as it is where none became narrower."""
    file = workdir / NARROW
    if not file.exists():
        return load_dense(workdir, device)
    return replace(load_network(file, device), selection=None)


def load_network(path: Path, device: torch.device) -> Checkpoint:
    """Any network of a stage folder, in eval mode."""
    checkpoint = load_checkpoint(path)
    checkpoint.model.to(device).eval()
    return checkpoint


def trace(checkpoint: Checkpoint, device: torch.device) -> ChannelGraph:
    """Channel graph of a checkpoint's network."""
    return build_graph(checkpoint.model, torch.zeros(1, *checkpoint.shape, device=device))


def pixel_pairs_of(
    checkpoint: Checkpoint, graph: ChannelGraph, device: torch.device
) -> tuple[LayerPair, ...]:
    """Pairs from the images to the first layers of a checkpoint's network."""
    example = torch.zeros(1, *checkpoint.shape, device=device)
    return pixel_pairs(checkpoint.model, graph, example)
