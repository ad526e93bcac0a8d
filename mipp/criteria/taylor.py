"""First-order Taylor expansion of the loss (Molchanov et al. 2019, arXiv:1906.10771v1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mipp.criteria.shared.criterion import CriterionInput, sum_over_producers
from mipp.criteria.shared.samples import minibatches
from mipp.evaluation import evaluating
from mipp.inputs import Inputs, call, count
from mipp.layers import layer_at, layer_of
from mipp.selection.scores import GroupScores

MINIBATCH = 256  # images; part of the definition, since the change of each is squared


def score_taylor(given: CriterionInput) -> GroupScores:
    """Squared change of the loss, to first order, when a unit's weights become zero.

    Per unit and mini-batch (sum of gradient times weight)^2, summed over mini-batches of
    `MINIBATCH` images and added up over coupled layers. The network runs in eval mode; its own
    gradients are left as found.
    """
    model = given.model
    weights = {
        name: getattr(module, layer.filters)
        for name, module in model.named_modules()
        if (layer := layer_of(module)) is not None and layer.filters is not None
    }
    totals = {
        name: torch.zeros(layer_at(model, name).outputs.features, device=weight.device)
        for name, weight in weights.items()
    }
    with evaluating(model), torch.enable_grad(), _thawed(weights.values()):
        for parts in minibatches(given, MINIBATCH):
            for name, change in _changes(given, weights, parts).items():
                totals[name] += change.square()
    names = {module: name for name, module in model.named_modules()}

    def per_output(module: nn.Module) -> Tensor | None:
        return totals.get(names[module])

    return {
        name: sum_over_producers(group, model, per_output)
        for name, group in given.graph.groups.items()
    }


@contextmanager
def _thawed(weights: Iterable[Tensor]) -> Iterator[None]:
    """Within the block, frozen weights have gradients too."""
    frozen = [weight for weight in weights if not weight.requires_grad]
    try:
        for weight in frozen:
            weight.requires_grad_(True)
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)


def _changes(
    given: CriterionInput, weights: Mapping[str, Tensor], parts: Sequence[tuple[Inputs, Tensor]]
) -> dict[str, Tensor]:
    """Gradient of a mini-batch's mean loss times weight, summed by output (out features,)."""
    total = sum(count(inputs) for inputs, _ in parts)
    changes: dict[str, Tensor] = {}
    for inputs, labels in parts:
        loss = given.mean_loss(call(given.model, inputs), labels) * (count(inputs) / total)
        gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
            if gradient is not None:
                layer = layer_at(given.model, name)
                change = layer.by_output(gradient * weight.detach()).sum(1)
                changes[name] = changes.get(name, 0) + change
    return changes
