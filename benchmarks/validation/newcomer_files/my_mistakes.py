"""Calls of mipp.prune that are almost right, and what each of them says, a line of JSON each."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import mipp

Batches = Iterable[tuple[Tensor, ...]]
Call = Callable[[nn.Module, Batches], Any]


def said(make: Callable[[], nn.Module], batches: Batches) -> Iterator[tuple[str, str]]:
    """Each mistake with the words that came of it: an error's, or those of the report."""
    for name, call in MISTAKES.items():
        try:
            yield name, str(call(make(), batches).report)
        except mipp.MippError as error:
            yield name, str(error)


def _dicts(model: nn.Module, batches: Batches) -> Any:
    return mipp.prune(model, [{"image": x, "label": y} for x, y in batches], "macs:0.5")


def _in_training(model: nn.Module, batches: Batches) -> Any:
    return mipp.prune(model.train(), batches, "macs:0.5")


def _few_images(model: nn.Module, batches: Batches) -> Any:
    x, y = next(iter(batches))
    return mipp.prune(model, [(x[:8], y[:8])], "macs:0.5")


def _share_as_text(model: nn.Module, batches: Batches) -> Any:
    return mipp.prune(model, batches, budget="0.5")


def _share_as_number(model: nn.Module, batches: Batches) -> Any:
    return mipp.prune(model, batches, budget=0.5)  # type: ignore[arg-type]


def _channels_last(model: nn.Module, batches: Batches) -> Any:
    return mipp.prune(model, [(x.permute(0, 2, 3, 1), y) for x, y in batches], "macs:0.5")


MISTAKES: Mapping[str, Call] = {
    "a loader of dicts": _dicts,
    "a network in training mode": _in_training,
    "eight images": _few_images,
    'budget="0.5"': _share_as_text,
    "budget=0.5": _share_as_number,
    "channels last": _channels_last,
}

if __name__ == "__main__":
    from my_images import batches  # type: ignore[import-not-found]
    from my_network import Net  # type: ignore[import-not-found]

    torch.manual_seed(0)
    for pair in said(Net, batches()):
        print(json.dumps(pair))
