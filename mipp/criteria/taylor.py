"""First-order Taylor expansion of the loss (Molchanov et al. 2019, arXiv:1906.10771v1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mipp.criteria.shared.criterion import CriterionInput, sum_over_producers
from mipp.evaluation import evaluating
from mipp.inputs import call
from mipp.layers.attention import is_plain
from mipp.selection.budget import Scores


def score_taylor(given: CriterionInput) -> Scores:
    """Squared change of the loss, to first order, when a unit's weights become zero.

    Per unit and batch (sum of gradient times weight)^2, summed over batches and added up over
    coupled layers. The network runs in eval mode; its own gradients are left as found.
    """
    model = given.model
    weights = {
        name: module.in_proj_weight if is_plain(module) else module.weight
        for name, module in model.named_modules()
        if is_plain(module) or isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear))
    }
    totals = {name: torch.zeros(w.shape[0], device=w.device) for name, w in weights.items()}
    frozen = [weight for weight in weights.values() if not weight.requires_grad]
    for weight in frozen:
        weight.requires_grad_(True)
    with evaluating(model), torch.enable_grad():
        for images, labels in given.batches():
            loss = F.cross_entropy(call(model, images), labels)
            gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
                if gradient is not None:
                    change = (gradient * weight.detach()).flatten(1).sum(1)
                    totals[name] += change.square()
    for weight in frozen:
        weight.requires_grad_(False)
    names = {module: name for name, module in model.named_modules()}

    def per_output(module: nn.Module) -> Tensor | None:
        return totals.get(names[module])

    return {
        name: sum_over_producers(group, model, per_output)
        for name, group in given.graph.groups.items()
    }
