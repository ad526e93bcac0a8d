"""Attentions whose heads can become narrower (`mipp.narrowing`), and how each kind lays them out.

All keep one size of heads, for queries, keys and values alike: the fast kernels want it so.

    torch's MultiheadAttention    rows of one matrix, q then k then v; `head_dim`
    timm's Attention              the same in a layer `qkv`; `head_dim`, `attn_dim`, `scale`
    transformers' (ViT, CLIP)     layers `q_proj`, `k_proj`, `v_proj`; `head_dim`, its scale
    windows (Swin) of all three   as above; a bias of positions is added to what they compute

A module that is none of these, or does not compute what `attention_of` does, stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn, unflatten
from torch.nn.utils import parametrize

from mipp.copies import copy_of
from mipp.layers.attention import PrunedAttention, become_pruned, is_plain
from mipp.layers.cross_attention import attends_elsewhere
from mipp.layers.window_attention import become_windows_of_any_size, in_windows, is_windowed

TIMM = {
    "timm.layers.attention.Attention",
    "timm.models.vision_transformer.Attention",  # of older releases
    "timm.models.swin_transformer.WindowAttention",
}
POSITIONS = "relative_position_bias_table"  # added to logits of whatever heads
CLOSE = 1e-3  # relative error within which both ways to compute an attention agree in float32
TOKENS = 7  # of the input that they are compared on, but for windows


class Weights(NamedTuple):
    """An attention as plain tensors."""

    rows: Tensor  # that make queries, keys and values (3, heads, size, inputs)
    shifts: Tensor | None  # their biases (3, heads, size)
    outputs: Tensor  # (heads, features, size)
    bias: Tensor | None  # (features,)

    @property
    def size(self) -> int:
        """Of a head."""
        return self.rows.shape[2]


@dataclass(frozen=True)
class Attention:
    """A module that is known to compute `attention_of` of its weights.

    Parameters
    ----------
    makes, reads : parts that make queries, keys and values, and the one that reads mixed values.
    """

    name: str
    module: Any
    makes: tuple[str, ...]
    reads: str

    @property
    def size(self) -> int:
        """Of a head."""
        return int(self._reader.in_features // self.heads)

    @property
    def heads(self) -> int:
        """How many there are."""
        size = getattr(self.module, "head_dim", None)
        return int(self._reader.in_features // size if size else self.module.num_heads)

    @property
    def makers(self) -> list[str]:
        """Full names of the layers whose outputs are queries, keys and values, in this order."""
        return [".".join(filter(None, (self.name, part))) for part in self.makes]

    @property
    def reader(self) -> str:
        """Full name of the layer that reads mixed values."""
        return ".".join(filter(None, (self.name, self.reads)))

    @property
    def parts(self) -> list[str]:
        """Names by which the attention, and what is in it, can be told to stay whole."""
        return [self.name, *self.makers, self.reader]

    def windows(self, made: Tensor) -> Tensor:
        """What a part made, of tokens that attend to each other (n, tokens, features)."""
        return in_windows(self.module, made) if is_windowed(self.module) else made

    def is_named(self, patterns: Iterable[str]) -> bool:
        """Whether one of these names, or patterns with `*`, is of it or of a part of it."""
        return any(fnmatchcase(part, pattern) for pattern in patterns for part in self.parts)

    def attends_elsewhere(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Whether a call makes keys of other tokens than those that `makers` are watched on."""
        alone = isinstance(self.module, nn.MultiheadAttention)  # makes all three by itself
        return alone and attends_elsewhere(self.module, args, kwargs)

    def weights(self) -> Weights:
        """In float64."""
        layers = [_tensors(self.module.get_submodule(part)) for part in self.makes]
        shape = 3, self.heads, self.size
        rows = unflatten(torch.cat([weight for weight, _ in layers]).detach().double(), 0, shape)
        biases = [bias for _, bias in layers if bias is not None]
        shifts = unflatten(torch.cat(biases).detach().double(), 0, shape) if biases else None
        outputs, bias = _tensors(self._reader)
        return Weights(
            rows,
            shifts,
            unflatten(outputs.detach().double(), 1, shape[1:]).transpose(0, 1),
            None if bias is None else bias.detach().double(),
        )

    def take(self, weights: Weights) -> None:
        """Have these weights instead, whatever their size of heads."""
        if isinstance(self.module, nn.MultiheadAttention):
            become_pruned(self.module)
        become_windows_of_any_size(self.module)
        self.write(weights)
        size, heads = weights.size, weights.rows.shape[1]
        for attribute, value in (
            ("head_dim", size),
            ("attn_dim", heads * size),
            ("scale", size**-0.5),
            ("scaling", size**-0.5),
        ):
            if isinstance(getattr(self.module, attribute, None), (int, float)):
                setattr(self.module, attribute, value)

    def write(self, weights: Weights) -> None:
        """Have these weights instead, of heads of the same size."""
        made = zip(self.makes, weights.rows.flatten(0, 2).chunk(len(self.makes)), strict=True)
        shifts = None if weights.shifts is None else weights.shifts.flatten()
        for number, (part, rows) in enumerate(made):
            own = None if shifts is None else shifts.chunk(len(self.makes))[number]
            _fill(self.module.get_submodule(part), rows, own)
        _fill(self._reader, weights.outputs.transpose(0, 1).flatten(1), weights.bias)

    @property
    def _reader(self) -> Any:
        return self.module.get_submodule(self.reads)


def attention_at(name: str, module: nn.Module) -> Attention | None:
    """The module, if it is an attention of a kind that is known, and computes `attention_of`.

    A copy of it is called: in eval mode, without gradients.
    """
    found = _known(name, module)
    if found is None:
        return None
    sizes = {found.size, max(1, found.size - 1)}  # it may take its own alone
    return found if all(_is_proven(found, size) for size in sizes) else None


def _known(name: str, module: Any) -> Attention | None:
    kind, home = type(module), type(module).__module__
    found = None
    if is_windowed(module):
        found = Attention(name, module, ("qkv",), "proj")
    elif kind in (nn.MultiheadAttention, PrunedAttention):
        found = Attention(name, module, ("",), "out_proj") if is_plain(module) else None
    elif f"{home}.{kind.__name__}" in TIMM:
        whole = ("q_norm", "k_norm", "norm", "gate")
        plain = all(isinstance(getattr(module, n, None), nn.Identity | None) for n in whole)
        found = Attention(name, module, ("qkv",), "proj") if plain else None
    elif home.startswith("transformers."):
        reads = "o_proj" if hasattr(module, "o_proj") else "out_proj"
        found = Attention(name, module, ("q_proj", "k_proj", "v_proj"), reads)
    return found if found is not None and _is_laid_out(found) else None


def _is_laid_out(found: Attention) -> bool:
    """Whether all parts are there, are plain layers, and are of one size of heads."""
    parts = [getattr(found.module, part, None) if part else found.module for part in found.makes]
    reader = getattr(found.module, found.reads, None)
    own = (getattr(found.module, name, None) for name in ("head_dim", "num_heads"))
    size = next((number for number in own if number is not None), None)
    if type(size) is not int or not all(map(_is_linear, (*parts, reader))):
        return False
    alike = {(weight.shape, bias is None) for weight, bias in map(_tensors, parts)}
    if len(alike) > 1:
        return False
    [(shape, _)] = alike
    read: int = reader.in_features  # type: ignore[union-attr]  # it is linear
    return shape[0] * len(parts) == 3 * read and read % size == 0


def _is_linear(part: Any) -> bool:
    if isinstance(part, nn.MultiheadAttention):
        return not parametrize.is_parametrized(part)
    plain = isinstance(part, nn.Linear) and not parametrize.is_parametrized(part)
    return plain and "forward" not in vars(part) and type(part).forward is nn.Linear.forward


def _tensors(part: Any) -> tuple[Tensor, Tensor | None]:
    if isinstance(part, nn.MultiheadAttention):
        return part.in_proj_weight, part.in_proj_bias
    return part.weight, part.bias


def _fill(part: Any, weight: Tensor, bias: Tensor | None) -> None:
    names = ("weight", "bias")
    if isinstance(part, nn.MultiheadAttention):
        names = ("in_proj_weight", "in_proj_bias")
    else:
        part.out_features, part.in_features = weight.shape
    for name, value in zip(names, (weight, bias), strict=True):
        old = getattr(part, name)
        if value is not None:
            new = nn.Parameter(value.to(old).contiguous(), old.requires_grad)
            setattr(part, name, new)


def attention_of(weights: Weights, x: Tensor) -> Tensor:
    """What every kind computes of tokens (n, tokens, inputs)."""
    made = torch.einsum("nti,phsi->pnths", x, weights.rows)
    if weights.shifts is not None:
        made = made + weights.shifts[:, None, None]
    q, k, v = made.transpose(2, 3)
    mixed = F.scaled_dot_product_attention(q, k, v)
    outputs = torch.einsum("nhts,hfs->ntf", mixed, weights.outputs)
    return outputs if weights.bias is None else outputs + weights.bias


def is_close(made: Tensor, wanted: Tensor, kind: torch.dtype) -> bool:
    """Whether two ways to compute the same agree, as far as this type of weights can tell."""
    if made.shape != wanted.shape:
        return False
    made, wanted = made.double(), wanted.double()
    limit = CLOSE if kind in (torch.float32, torch.float64) else 30 * CLOSE
    size = float(wanted.where(wanted.isfinite(), 0).abs().amax()) if wanted.numel() else 0
    return torch.allclose(made, wanted, rtol=0, atol=limit * size, equal_nan=True)


def _is_proven(found: Attention, size: int) -> bool:
    """Whether a module with such heads computes just that, whatever its weights are."""
    weights, x = _any_of(found, size)
    apart = replace(found, module=copy_of(found.module))
    (apart.write if size == found.size else apart.take)(weights)
    module = apart.module
    for name, weight in module.named_parameters():
        if name.endswith(POSITIONS):
            weight.zero_()
    own = _tensors(module.get_submodule(found.makes[0]))[0]
    of_torch = isinstance(module, nn.MultiheadAttention)
    tokens_first = of_torch and not module.batch_first
    given = x.to(own).transpose(0, 1) if tokens_first else x.to(own)
    given = unflatten(given, 1, module.window_size) if is_windowed(module) else given
    try:
        made = module(*[given] * (3 if of_torch else 1))
    except Exception:  # another way to call it, whatever it says
        return False
    made = made[0] if isinstance(made, tuple) else made
    made = made.transpose(0, 1) if tokens_first else made
    made = made.flatten(1, 2) if is_windowed(module) else made
    return is_close(made, attention_of(apart.weights(), x), own.dtype)


def _any_of(found: Attention, size: int) -> tuple[Weights, Tensor]:
    """Weights of such heads, and inputs (2, tokens, features): its own may all be zero."""
    own, drawn = found.weights(), torch.Generator("cpu").manual_seed(0)

    def draw(*shape: int) -> Tensor:
        made = torch.randn(*shape, generator=drawn, dtype=torch.float64, device="cpu")
        return made.to(own.rows.device)

    _, heads, _, inputs = own.rows.shape
    features = own.outputs.shape[1]
    weights = Weights(
        draw(3, heads, size, inputs) / inputs**0.5,
        None if own.shifts is None else draw(3, heads, size),
        draw(heads, features, size) / features**0.5,
        None if own.bias is None else draw(features),
    )
    return weights, draw(2, _tokens(found.module), inputs)


def _tokens(module: nn.Module) -> int:
    """How many tokens it is called with: those of a window, or any."""
    windows: list[Any] = [
        part.window_size for part in module.modules() if hasattr(part, "window_size")
    ]
    return math.prod(windows[0]) if windows else TOKENS
