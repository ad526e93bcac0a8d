"""The length of filters before a batch-norm: it means nothing, but to the training that follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from mipp.evaluation import evaluating
from mipp.inputs import Inputs, call, tensors_in
from mipp.layers import Layer, Statistics, layer_at

Lengths = Mapping[str, Tensor]  # layer before a batch-norm -> (filters,), Euclidean


def filter_lengths(
    model: nn.Module, layers: Iterable[str], norm_after: Mapping[str, str]
) -> Lengths:
    """How long the filters are of those layers that a batch-norm with running statistics follows.

    Parameters
    ----------
    norm_after : layer -> the batch-norm that reads its output.
    """
    norms = {name: layer_at(model, norm_after[name]) for name in layers if name in norm_after}
    with_statistics = [name for name, norm in norms.items() if norm.statistics is not None]
    return {name: _lengths(layer_at(model, name)) for name in with_statistics}


@torch.no_grad()
def restore_lengths(
    model: nn.Module, wanted: Lengths, norm_after: Mapping[str, str], example: Inputs
) -> None:
    """Give filters the length that they had, and batch-norm what undoes it, in place.

    Few channels that make up for many get long filters. A step of training turns a filter before
    a batch-norm by the learning rate over its squared length: long ones would hardly learn, at a
    learning rate that suits the dense network's. What evaluation computes stays; where it does
    not, since a filter's output is read beside its batch-norm too, nothing is changed.

    Parameters
    ----------
    wanted : what `filter_lengths` gave before.
    norm_after : layer -> the batch-norm that reads its output.
    example : inputs of any number, of which both networks have to say the same.

    Source: the step's dependence on the length is van Laarhoven (arXiv:1706.05350v1, section 2).
    """
    if not wanted:
        return
    before = _outputs(model, example)
    touched = [model.get_submodule(part) for name in wanted for part in (name, norm_after[name])]
    state = [{key: t.clone() for key, t in module.state_dict().items()} for module in touched]
    for name, lengths in wanted.items():
        _scale(layer_at(model, name), layer_at(model, norm_after[name]).statistics, lengths)
    if not all(map(_same, before, _outputs(model, example))):
        for module, had in zip(touched, state, strict=True):
            module.load_state_dict(had)


def _scale(layer: Layer, norm: Statistics | None, wanted: Tensor) -> None:
    linear = layer.map
    assert linear is not None
    assert norm is not None
    spread = norm.variance.double() + norm.eps
    length = _lengths(layer)
    factor = torch.where((wanted > 0) & (length > 0), wanted / length, 1.0)
    factor = torch.maximum(factor, (norm.eps / spread).sqrt())  # under which no variance would do
    bias = torch.zeros_like(factor) if linear.bias is None else linear.bias
    layer.set_map(linear.weight * factor[:, None, None], bias * factor)
    norm.mean.mul_(factor)
    norm.variance.copy_((factor.square() * spread - norm.eps).clamp(min=0))


def _lengths(layer: Layer) -> Tensor:
    linear = layer.map
    assert linear is not None
    filters = linear.weight.detach().flatten(1)
    return filters.square().sum(1, dtype=torch.float64).sqrt()


def _outputs(model: nn.Module, example: Inputs) -> list[Tensor]:
    with evaluating(model):
        outputs = [t for t in tensors_in(call(model, example)) if t.numel()]
    return [(torch.view_as_real(t) if t.is_complex() else t).double() for t in outputs]


def _same(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-3, atol=1e-3 * float(one.abs().max()))
