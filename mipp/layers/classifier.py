"""What networks of timm say of the features that their classifier reads, which no forward asks for.

`reset_classifier`, with which people go on to classes of their own, makes a layer of that width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from mipp.layers.table import layer_of

SAY = ("num_features", "head_hidden_size", "embed_dim", "in_features", "hidden_size")


def tell_features(dense: nn.Module, cut: nn.Module) -> None:
    """Let all that say how wide the input of a classifier is say so of a network that was cut.

    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.num_features, self.head = 8, nn.Linear(8, 2)
    ...     def get_classifier(self):
    ...         return self.head
    >>> dense, cut = Net(), Net()
    >>> cut.head = nn.Linear(5, 2)
    >>> tell_features(dense, cut)
    >>> cut.num_features
    5
    """
    for name in _readers(dense):
        before, after = (_width(model.get_submodule(name)) for model in (dense, cut))
        parts = name.split(".")
        for end in range(len(parts)):
            holder = cut.get_submodule(".".join(parts[:end]))
            for attribute in SAY:
                own = vars(holder).get(attribute)
                if type(own) is int and own == before and layer_of(holder) is None:
                    setattr(holder, attribute, after)


def _readers(model: nn.Module) -> Iterator[str]:
    """Names of the layers that classifiers begin with."""
    names = {id(module): name for name, module in model.named_modules()}
    holders: list[Any] = [m for m in model.modules() if hasattr(m, "get_classifier")]
    for holder in holders:
        if callable(holder.get_classifier):
            found = holder.get_classifier()
            parts = found if isinstance(found, (tuple, list)) else [found]
            for part in parts:
                held = part.modules() if isinstance(part, nn.Module) else ()
                reader = next((one for one in held if _width(one)), None)
                if id(reader) in names:
                    yield names[id(reader)]


def _width(module: nn.Module) -> int:
    """Features that a layer reads of which it makes others; 0 for anything else."""
    layer = layer_of(module)
    return layer.inputs.features if layer is not None and layer.role == "makes" else 0
