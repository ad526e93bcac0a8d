"""Many small multilayer perceptrons side by side, as one batched matrix product per layer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Literal["squared error", "cross entropy"]
DIVERGED = 100.0  # variances of a standardised target, or nats: no use of training further


@dataclass(frozen=True)
class Perceptrons:
    """`g` networks of one shape: weights (g, in, out) and biases (g, 1, out) of every layer."""

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs (g, n, out) for inputs (g, n, in)."""
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            if layer < last:
                x = x.relu()
        return x

    def parameters(self) -> list[Tensor]:
        """All tensors, weights first."""
        return [*self.weights, *self.biases]

    def trainable(self) -> Perceptrons:
        """A copy whose tensors are leaves that take gradients."""
        return self.map(lambda t: t.detach().clone().requires_grad_())

    def copies(self, count: int) -> Perceptrons:
        """(count * g) networks: all of these, then all of them again, and so on."""
        return self.map(lambda t: t.detach().repeat(count, 1, 1))

    def part(self, start: int, stop: int) -> Perceptrons:
        """Networks `start` to `stop`."""
        return self.map(lambda t: t.detach()[start:stop].clone())

    def with_outputs(self, outputs: Tensor) -> Perceptrons:
        """The same networks with some of their outputs."""
        weights = (*self.weights[:-1], self.weights[-1][:, :, outputs])
        return Perceptrons(weights, (*self.biases[:-1], self.biases[-1][:, :, outputs]))

    def with_inputs(self, inputs: Tensor) -> Perceptrons:
        """The same networks with some of their inputs; the others count as 0."""
        return Perceptrons((self.weights[0][:, inputs], *self.weights[1:]), self.biases)

    def where(self, chosen: Tensor, other: Perceptrons) -> Perceptrons:
        """These networks where `chosen` (g,) holds, the other ones elsewhere."""
        mask = chosen[:, None, None]
        mine, others = self.parameters(), other.parameters()
        mixed = [torch.where(mask, a, b).detach() for a, b in zip(mine, others, strict=True)]
        half = len(self.weights)
        return Perceptrons(tuple(mixed[:half]), tuple(mixed[half:]))

    def map(self, change: Callable[[Tensor], Tensor]) -> Perceptrons:
        """The networks with every tensor changed."""
        return Perceptrons(tuple(map(change, self.weights)), tuple(map(change, self.biases)))


def initialise(sizes: Sequence[int], count: int, generator: torch.Generator) -> Perceptrons:
    """Networks with layers of these sizes, uniform in +-1/sqrt(fan in), biases included.

    Parameters
    ----------
    sizes : inputs, hidden widths, outputs.
    count : number of networks, each drawn on its own.
    """
    weights: list[Tensor] = []
    biases: list[Tensor] = []
    for inputs, outputs in itertools.pairwise(sizes):
        bound = inputs**-0.5
        for kept, shape in ((weights, (count, inputs, outputs)), (biases, (count, 1, outputs))):
            kept.append((2 * torch.rand(shape, generator=generator, device="cpu") - 1) * bound)
    return Perceptrons(tuple(weights), tuple(biases))


def losses(outputs: Tensor, y: Tensor, loss: Loss) -> Tensor:
    """Mean loss over rows of each network and target, (g, m); m = 1 for the cross entropy.

    Parameters
    ----------
    outputs : (g, n, m), or (g, n, classes) for the cross entropy.
    y : (g, n, m) float, or (g, n) classes.
    """
    if loss == "squared error":
        return (outputs - y).square().mean(1)
    each = F.cross_entropy(outputs.flatten(0, 1), y.flatten(), reduction="none")
    return each.view(y.shape).mean(1, keepdim=True)


def minibatches(rows: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Row indices (g, <= size) of one epoch, each network's rows in an order of its own."""
    order = torch.rand(rows.shape, generator=generator, device="cpu").argsort(1).to(rows.device)
    yield from rows.gather(1, order).split(size, 1)  # type: ignore[no-untyped-call]


def step(
    networks: Perceptrons, optimiser: torch.optim.Optimizer, x: Tensor, y: Tensor, loss: Loss
) -> None:
    """One step of every network down its own loss, the mean over rows and targets."""
    optimiser.zero_grad()
    losses(networks(x), y, loss).mean(1).sum().backward()  # type: ignore[no-untyped-call]
    optimiser.step()
