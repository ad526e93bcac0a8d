"""Recurrent layers and cells as readers: their inputs can be cut, their hidden units stay."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mipp.layers.answers import Cost, LinearMap, Side
from mipp.layers.layer import Layer
from mipp.layers.rows import token_rows
from mipp.layers.table import register_layer


@register_layer
class Recurrent(Layer):
    """Its linear map is that of the inputs to the gates of the first layer, in every direction."""

    types, kind, role = (nn.LSTM, nn.GRU, nn.RNN), "recurrent", "makes"
    weight, bias, filters = "weight_ih_l0", "bias_ih_l0", "weight_ih_l0"
    inner, sampled = True, True

    @property
    def _directions(self) -> list[str]:
        return ["", "_reverse"] if self.module.bidirectional else [""]

    def _weights(self) -> list[Tensor]:
        return [getattr(self.module, f"weight_ih_l0{end}") for end in self._directions]

    @property
    def inputs(self) -> Side:
        tensors = {f"weight_ih_l0{end}": 1 for end in self._directions}
        return Side(self._weights()[0].shape[1], -1, tensors, ("input_size",))

    @property
    def outputs(self) -> Side:
        return Side(sum(map(len, self._weights())), -1, {"weight_ih_l0": 0})

    def settle(self) -> None:
        self.module.flatten_parameters()

    @property
    def cost(self) -> Cost:
        own = sum(weight.numel() for weight in self._weights())
        matrices = [p for p in self.module.parameters() if p.ndim == 2]
        part = own / sum(matrix.numel() for matrix in matrices)
        return Cost(self.inputs.features, self.outputs.features, own, part=part)

    def objection(self, inputs: tuple[Any, ...]) -> str:
        return "" if isinstance(inputs[0], Tensor) else " as a packed sequence"

    def images_axis(self, x: Tensor) -> int:
        return 1 if not self.module.batch_first and x.ndim == 3 else 0

    def sides(self, inputs: tuple[Any, ...], output: Any) -> tuple[Tensor, Tensor]:
        tokens = self._tokens(inputs[0])
        linear = self.map
        return tokens, F.linear(tokens, linear.weight[:, :, 0], linear.bias)

    def made_shape(self, inputs: tuple[Any, ...], output: Any) -> torch.Size:
        return torch.Size((*self._tokens(inputs[0]).shape[:-1], self.outputs.features))

    def _tokens(self, x: Tensor) -> Tensor:
        """What it is given, as (sequences, steps, features)."""
        return x.transpose(0, 1) if self.images_axis(x) else x

    def positions(self, made: torch.Size) -> int:
        return made[1:-1].numel()

    def rows_read(self, x: Tensor, at: Tensor, made: torch.Size) -> Tensor:
        return token_rows(x, at)[:, :, None]

    def rows_made(self, y: Tensor, at: Tensor) -> Tensor:
        return token_rows(y, at)

    @property
    def map(self) -> LinearMap:
        weight = torch.cat(self._weights())[:, :, None]
        if not self.module.bias:
            return LinearMap(weight, None)
        biases = [getattr(self.module, f"bias_ih_l0{end}") for end in self._directions]
        return LinearMap(weight, torch.cat(biases))

    def set_map(self, weight: Tensor, bias: Tensor) -> None:
        parts = weight.flatten(1).chunk(len(self._directions))
        offsets = bias.chunk(len(self._directions))
        for end, part, offset in zip(self._directions, parts, offsets, strict=True):
            getattr(self.module, f"weight_ih_l0{end}").copy_(part)
            if self.module.bias:
                getattr(self.module, f"bias_ih_l0{end}").copy_(offset)


@register_layer
class RecurrentCell(Layer):
    """One step of such a layer; its linear map is that of the inputs to the gates."""

    types, kind, role = (nn.LSTMCell, nn.GRUCell, nn.RNNCell), "recurrent cell", "makes"
    weight, bias, filters = "weight_ih", "bias_ih", "weight_ih"
    inner, sampled = True, True

    @property
    def inputs(self) -> Side:
        return Side(self.module.weight_ih.shape[1], -1, {"weight_ih": 1}, ("input_size",))

    @property
    def outputs(self) -> Side:
        return Side(len(self.module.weight_ih), -1, {"weight_ih": 0})

    @property
    def cost(self) -> Cost:
        own = self.module.weight_ih.numel()
        part = own / (own + self.module.weight_hh.numel())
        return Cost(self.inputs.features, self.outputs.features, own, part=part)

    def objection(self, inputs: tuple[Any, ...]) -> str:
        return "" if inputs[0].ndim == 2 else " as a single vector"

    def sides(self, inputs: tuple[Any, ...], output: Any) -> tuple[Tensor, Tensor]:
        return inputs[0], F.linear(inputs[0], self.module.weight_ih, self.module.bias_ih)

    def made_shape(self, inputs: tuple[Any, ...], output: Any) -> torch.Size:
        return torch.Size((len(inputs[0]), self.outputs.features))

    def positions(self, made: torch.Size) -> int:
        return 1

    def rows_read(self, x: Tensor, at: Tensor, made: torch.Size) -> Tensor:
        return token_rows(x, at)[:, :, None]

    def rows_made(self, y: Tensor, at: Tensor) -> Tensor:
        return token_rows(y, at)
