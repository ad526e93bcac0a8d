"""The length of filters before a batch-norm: it means nothing, but to the training that follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from mipp.evaluation import evaluating
from mipp.inputs import Inputs, call, tensors_in

Lengths = Mapping[str, Tensor]  # layer before a batch-norm -> (filters,), Euclidean


def filter_lengths(
    model: nn.Module, layers: Iterable[str], norm_after: Mapping[str, str]
) -> Lengths:
    """How long the filters are of those layers that a batch-norm with running statistics follows.

    Parameters
    ----------
    norm_after : layer -> the batch-norm that reads its output.
    """
    norms = {n: model.get_submodule(norm_after[n]) for n in layers if n in norm_after}
    with_statistics = [name for name, norm in norms.items() if norm.running_var is not None]
    return {name: _lengths(model.get_submodule(name)) for name in with_statistics}


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
    before = _outputs(model, example)
    touched = [model.get_submodule(part) for name in wanted for part in (name, norm_after[name])]
    state = [{key: t.clone() for key, t in module.state_dict().items()} for module in touched]
    for name, lengths in wanted.items():
        _scale(model.get_submodule(name), model.get_submodule(norm_after[name]), lengths)
    if not all(map(_same, before, _outputs(model, example))):
        for module, had in zip(touched, state, strict=True):
            module.load_state_dict(had)


def _scale(layer: nn.Module, norm: nn.Module, wanted: Tensor) -> None:
    assert isinstance(layer.weight, Tensor)
    mean, variance, eps = norm.running_mean, norm.running_var, norm.eps
    assert isinstance(mean, Tensor)
    assert isinstance(variance, Tensor)
    assert isinstance(eps, float)
    spread = variance.double() + eps
    length = _lengths(layer)
    factor = torch.where((wanted > 0) & (length > 0), wanted / length, 1.0)
    factor = torch.maximum(factor, (eps / spread).sqrt())  # under which no variance would do
    layer.weight.mul_(factor.view(-1, *[1] * (layer.weight.dim() - 1)))
    if isinstance(layer.bias, Tensor):
        layer.bias.mul_(factor)
    mean.mul_(factor)
    variance.copy_((factor.square() * spread - eps).clamp(min=0))


def _lengths(layer: nn.Module) -> Tensor:
    assert isinstance(layer.weight, Tensor)
    filters = layer.weight.detach().flatten(1)
    return filters.square().sum(1, dtype=torch.float64).sqrt()


def _outputs(model: nn.Module, example: Inputs) -> list[Tensor]:
    with evaluating(model):
        return [t.double() for t in tensors_in(call(model, example))]


def _same(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-3, atol=1e-3 * float(one.abs().max()))
