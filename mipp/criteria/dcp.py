"""Discrimination-aware channel pruning (DCP, Zhuang et al. 2018, arXiv:1810.11809)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mipp.activations import Sampling, capture_rows
from mipp.criteria.shared.contributions import weights_read
from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.order import scores_of_order
from mipp.criteria.shared.samples import images_in_batches
from mipp.errors import DataError
from mipp.evaluation import evaluating
from mipp.inputs import Inputs, call
from mipp.layers import layer_at
from mipp.selection.scores import GroupScores

IMAGES = 512
ROWS = 1024
BATCH = 64
ROUNDS = 8  # in which channels are chosen, about as many in each
STEPS = 5  # of L-BFGS on the weights of what is chosen, after each round
HEAD_STEPS = 20  # of L-BFGS on a layer's classifier
DISCRIMINATION = 1.0  # weight of the classifier's loss beside the reconstruction


def score_dcp(given: CriterionInput) -> GroupScores:
    """Order in which channels are chosen for what the next layers tell of the labels.

    Behind every layer stands a classifier: norm, ReLU, mean over positions, linear. It is trained
    on the layer's outputs as they are. Then the layer begins with no channel of the group. Those
    whose weights have the steepest slope, by Frobenius norm, are chosen; they begin as they
    were, and all that is chosen is fitted before the next choice. The loss is the classifier's
    beside half of the mean squared error of the outputs.

    Source: arXiv:1810.11809v3, its losses and greedy algorithm. Departs: every layer has a
    classifier of its own, not every stage; channels are chosen in 8 rounds, not one by one, from
    about 1,024 rows of 512 images; no layer sees what earlier ones have lost.

    Raises
    ------
    DataError : the network's outputs are no scores (n, classes).
    """
    batches = images_in_batches(given, IMAGES, BATCH)
    labels = torch.cat([y for _, y in batches])
    classes = _classes(given, batches[0][0])
    rows = _rows(given, [inputs for inputs, _ in batches], len(labels))
    readers: dict[str, list[Reader]] = {name: [] for name in given.graph.groups}
    with torch.enable_grad():
        for pair in given.graph.pairs:
            x, y = rows.pop(pair.name)
            weights = weights_read(layer_at(given.model, pair.consumer), pair).to(x)
            loss = partial(given.mean_loss, labels=labels)
            readers[pair.group].append(Reader(x, y, weights, len(labels), classes, loss))
        return {
            name: scores_of_order(choosing_order(own, given.graph.widths[name])[::-1])
            for name, own in readers.items()
        }


class Reader:
    """A layer that reads a group, with rows of both sides and a classifier of its own.

    Parameters
    ----------
    x : the group's part of what it reads, (n, channels, block), the rows of an image together.
    y : what it makes of all that it reads, (n, outputs).
    weights : of the group's part, (outputs, channels, block).
    images : how many the rows come from.
    loss : of the classifier's outputs (images, classes).
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        weights: Tensor,
        images: int,
        classes: int,
        loss: Callable[[Tensor], Tensor],
    ) -> None:
        self.weights = weights
        self._x, self._y, self._images, self._loss = x.flatten(1), y, images, loss
        self._rest = y - self._x @ weights.flatten(1).T  # the bias, and other groups
        self._deviation, self._mean = torch.std_mean(y, 0, correction=0)
        start = y.new_zeros(classes, y.shape[1]), y.new_zeros(classes)
        self._head = minimised(lambda head: self._discrimination(y, head), start, HEAD_STEPS)

    def loss(self, weights: Tensor) -> Tensor:
        """Of the layer with these weights for the group's part."""
        made = self._rest + self._x @ weights.flatten(1).T
        error = F.mse_loss(made, self._y) / 2
        return error + DISCRIMINATION * self._discrimination(made, self._head)

    def _discrimination(self, made: Tensor, head: Sequence[Tensor]) -> Tensor:
        normed = (made - self._mean) / self._deviation.clamp_min(1e-6)
        pooled = normed.relu().view(self._images, -1, made.shape[1]).mean(1)
        return self._loss(F.linear(pooled, *head))


def choosing_order(readers: Sequence[Reader], width: int) -> list[int]:
    """Channels in the order in which they are chosen, the steepest of a round first."""
    chosen: list[int] = []
    weights = [torch.zeros_like(reader.weights) for reader in readers]
    for stop in np.unique(np.linspace(0, width, ROUNDS + 1).round().astype(int))[1:]:
        slopes = slope_norms(readers, weights)
        slopes[chosen] = -1
        new = slopes.argsort(descending=True, stable=True)[: stop - len(chosen)].tolist()
        chosen += new
        for mine, reader in zip(weights, readers, strict=True):
            mine[:, new] = reader.weights[:, new]
        weights = fitted(readers, weights, chosen)
    return chosen


def slope_norms(readers: Sequence[Reader], weights: Sequence[Tensor]) -> Tensor:
    """Norm of the loss's slope by each channel's weights in all layers, (width,)."""
    squares = []
    for reader, value in zip(readers, weights, strict=True):
        value = value.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(reader.loss(value), value)
        squares.append(slope.square().sum((0, 2)))
    return torch.stack(squares).sum(0).sqrt()


def fitted(
    readers: Sequence[Reader], weights: Sequence[Tensor], chosen: Sequence[int]
) -> list[Tensor]:
    """The weights after fitting those of the chosen channels; the others stay zero."""
    found = []
    for reader, value in zip(readers, weights, strict=True):
        whole, part = torch.zeros_like(value), value[:, chosen]
        placed = partial(whole.index_copy, 1, torch.tensor(chosen, device=value.device))
        (part,) = minimised(partial(_loss_where, reader, placed), [part], STEPS)
        found.append(placed(part))
    return found


def _loss_where(
    reader: Reader, placed: Callable[[Tensor], Tensor], parts: Sequence[Tensor]
) -> Tensor:
    return reader.loss(placed(parts[0]))


def minimised(
    loss: Callable[[Sequence[Tensor]], Tensor], start: Sequence[Tensor], steps: int
) -> list[Tensor]:
    """Variables after so many steps of L-BFGS."""
    variables = [value.detach().clone().requires_grad_(True) for value in start]
    optimiser = torch.optim.LBFGS(variables, max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss(variables)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return [value.detach() for value in variables]


def _rows(
    given: CriterionInput, inputs: Sequence[Inputs], images: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """By pair, sampled rows of what the layer reads of the group and of what it makes."""
    caught: dict[str, list[tuple[Tensor, Tensor]]] = {pair.name: [] for pair in given.graph.pairs}
    sampling = Sampling(ROWS, images, given.seed)
    for rows in capture_rows(given.model, given.graph.pairs, inputs, sampling):
        for name, sides in rows.items():
            caught[name].append(sides)
    return {
        name: (torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts]))
        for name, parts in caught.items()
    }


def _classes(given: CriterionInput, inputs: Inputs) -> int:
    with evaluating(given.model), torch.no_grad():
        outputs = call(given.model, inputs)
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:
        made = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise DataError(
            "dcp trains a classifier behind every layer, of as many outputs as the network has.\n"
            f"Expected outputs (n, classes), got {made}; choose another method, such as taylor."
        )
    return outputs.shape[1]
