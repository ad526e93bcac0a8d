"""`mipp inspect`: what of a network can be pruned."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import nn

from mipp.checkpoint import load_checkpoint
from mipp.commands import limits
from mipp.commands.arguments import add_json
from mipp.errors import as_written
from mipp.inputs import Inputs, zeros
from mipp.models import ModelSpec, make_model, preferred_input
from mipp.pruning.inspect_network import inspect

WRITTEN = {**limits.WRITTEN, "model.name": "--model", "calls": "--calls"}
DESCRIPTION = """\
Says what of a network can be pruned, without any data and without pruning it: its channel groups
with their widths and what goes with each, the least share of the network that can be reached, and
what stays whole, grouped by reason, each with a line of what to do about it.
"""
EPILOG = """\
examples:
  mipp inspect --model torchvision/resnet50                a network of torchvision, or timm/NAME
  mipp inspect --model lenet5 --channels 1 --classes 10    one of mipp's own
  mipp inspect --model my_net:Net --size 32                yours, in my_net.py: a class or function
  mipp inspect --model work/prune/pruned.safetensors       what is left of a pruned one
  mipp inspect --model timm/vit_tiny_patch16_224 --round-to 8 --ignore 'blocks.0.*' --json

Weights are random, as what can be pruned does not depend on them. In Python: mipp.inspect(model,
example).
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument(
        "--model",
        required=True,
        metavar="NAME",
        help="as model.name says it, or the file of a checkpoint (.safetensors)",
    )
    parser.add_argument("--size", type=int, help="of the images (default: what it was made for)")
    parser.add_argument("--channels", type=int, help="of the images (default: 3, or its own)")
    parser.add_argument("--classes", type=int, default=1000, help="(%(default)s)")
    parser.add_argument(
        "--calls",
        nargs="+",
        default=[],
        metavar="METHOD",
        help="methods that are followed beside forward, such as project",
    )
    limits.add_limits(parser)
    add_json(parser, "all of it")


@as_written(WRITTEN)
def run(options: argparse.Namespace) -> int:
    """Print what can be pruned.

    Raises
    ------
    InputError : there is no such network or checkpoint, or it cannot be traced.
    """
    model, example = _network(options)
    found = inspect(model, example, calls=options.calls, **limits.limits_given(options))
    print(json.dumps(found.to_dict()) if options.json else found)
    return 0


def _network(options: argparse.Namespace) -> tuple[nn.Module, Inputs]:
    """The network that was named, with an input of its size."""
    if options.model.endswith(".safetensors"):
        checkpoint = load_checkpoint(Path(options.model))
        return checkpoint.model, zeros(checkpoint.shape)
    channels, size = preferred_input(options.model)
    channels, size = options.channels or channels or 3, options.size or size or 224
    model = make_model(ModelSpec(options.model, options.classes, channels, size), seed=0)
    generator = torch.Generator().manual_seed(0)
    return model, torch.randn(2, channels, size, size, generator=generator, device="cpu")
