"""Embeddings, such as those of positions, whose features are a stream's that they are added to."""

from __future__ import annotations

from typing import Any

from torch import nn

from mipp.layers.answers import Side
from mipp.layers.layer import Layer
from mipp.layers.table import register_layer


@register_layer
class Embedding(Layer):
    """A table of vectors; it makes features and reads none. One that renormalises has no kind."""

    types, kind, role = (nn.Embedding,), "embedding", "makes"
    operators, names_groups = frozenset({"embedding"}), False

    @classmethod
    def fits(cls, module: Any) -> bool:
        return module.max_norm is None

    @property
    def inputs(self) -> Side:
        return Side(0)

    @property
    def outputs(self) -> Side:
        return Side(self.module.weight.shape[1], -1, {"weight": 1}, ("embedding_dim",))
