"""The paper's estimator: information is the drop in the error of a perceptron that predicts.

A multilayer perceptron per pair predicts the downstream from the upstream activations. What a
channel adds is how much the loss on held-out rows rises when the channel is masked and the
network, from the weights it has, is briefly trained again. Five repeats, each with rows and
initial weights of its own, are trained together as one batched computation.

Source: arXiv:2411.00147v1 section 3, after Covert et al. (arXiv:2004.00668); the null column is
that of the authors' TERC code (arXiv:2401.11512).
Departs: both sides of a comparison are trained for the same steps on the same minibatches, one
without the channel and one without a column known to tell nothing, so that neither the extra
training nor the loss of an input counts for or against the channel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from mipp.errors import EstimationError, option
from mipp.information.reconstruction.elimination import ReconstructionElimination, nats
from mipp.information.reconstruction.perceptron import (
    DIVERGED,
    Loss,
    Perceptrons,
    initialise,
    losses,
    minibatches,
    step,
)
from mipp.information.reconstruction.rows import PairRows
from mipp.information.reconstruction.settings import ReconstructionSettings
from mipp.progress import track

SINGLE_WIDTH = 32  # hidden units of the perceptron that sees one channel alone
Batch = Callable[[Tensor], tuple[Tensor, Tensor]]  # rows (g, b) -> x (g, b, in), y


@dataclass(frozen=True)
class ReconstructionState:
    """What `prepare` pays for once per pair: trained networks and their losses on held-out rows.

    Losses have a column per target; the cross entropy has one for all.
    """

    networks: Perceptrons  # (repeats)
    joint: Tensor  # (repeats, m) loss with all channels
    alone: Tensor  # (channels, m) loss with one channel
    nothing: Tensor  # (m,) loss without any

    @property
    def loss(self) -> Loss:
        """Of which kind the losses are; only a discrete target has more outputs than losses."""
        outputs = self.networks.weights[-1].shape[2]
        return "squared error" if outputs == len(self.nothing) else "cross entropy"

    def tensors(self) -> dict[str, Tensor]:
        """Everything in the state as named tensors, for a file."""
        layers = {
            f"{kind}.{layer}": tensor
            for kind in ("weights", "biases")
            for layer, tensor in enumerate(getattr(self.networks, kind))
        }
        rest = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "networks"}
        return {**layers, **rest}


def from_tensors(tensors: Mapping[str, Tensor]) -> ReconstructionState:
    """The state whose `tensors` these are."""
    depth = sum(name.startswith("weights.") for name in tensors)
    weights, biases = (
        tuple(tensors[f"{kind}.{layer}"] for layer in range(depth))
        for kind in ("weights", "biases")
    )
    rest = {n: t for n, t in tensors.items() if not n.startswith(("weights.", "biases."))}
    return ReconstructionState(Perceptrons(weights, biases), **rest)


def prepare(rows: PairRows, settings: ReconstructionSettings) -> ReconstructionState:
    """Train the perceptrons of all channels and of each channel alone, with early stopping.

    Raises
    ------
    EstimationError : a network diverges; names the pair and the epoch.
    """
    outputs = rows.y.shape[1] if rows.loss == "squared error" else rows.classes
    hidden = [settings.width] * settings.depth
    generator = torch.Generator().manual_seed(settings.seed + 1)
    networks = initialise([rows.x.shape[1], *hidden, outputs], settings.repeats, generator)
    networks = networks.map(lambda t: t.to(rows.x.device))
    trained, joint = _fit(
        networks, lambda at: (rows.x[at], rows.y[at]), rows.train, rows.held_out, rows, settings
    )
    alone = _each_alone(rows, outputs, settings, generator)
    return ReconstructionState(trained, joint, alone, _nothing(rows))


def _each_alone(
    rows: PairRows, outputs: int, settings: ReconstructionSettings, generator: torch.Generator
) -> Tensor:
    """Held-out loss of a small network per channel, (channels, m), on the first repeat's rows."""
    networks = initialise([rows.block, SINGLE_WIDTH, outputs], rows.channels, generator)
    networks = networks.map(lambda t: t.to(rows.x.device))
    x = rows.x.view(len(rows.x), rows.channels + 1, rows.block)
    channel = torch.arange(rows.channels, device=x.device)[:, None]
    train, held_out = (part[:1].expand(rows.channels, -1) for part in (rows.train, rows.held_out))
    _, found = _fit(
        networks, lambda at: (x[at, channel], rows.y[at]), train, held_out, rows, settings
    )
    return found


def _nothing(rows: PairRows) -> Tensor:
    """Loss of the best constant answer, (m,)."""
    if rows.loss == "squared error":
        return rows.y.var(0, correction=0)
    share = rows.y.bincount() / len(rows.y)
    entropy: Tensor = torch.special.entr(share).sum()[None]
    return entropy


def _fit(
    networks: Perceptrons,
    batch: Batch,
    train: Tensor,
    held_out: Tensor,
    rows: PairRows,
    settings: ReconstructionSettings,
) -> tuple[Perceptrons, Tensor]:
    """Train until no network's held-out loss has improved for `patience` epochs."""
    networks = networks.trainable()
    optimiser = torch.optim.Adam(networks.parameters(), settings.lr)
    generator = torch.Generator().manual_seed(settings.seed + 2)
    best, best_loss = networks, torch.full((len(train), 1), torch.inf, device=train.device)
    since = torch.zeros(len(train), dtype=torch.int64, device=train.device)
    epochs = range(1, settings.epochs + 1)
    for epoch in track(epochs, total=len(epochs), label=f"{rows.name}, at most"):
        for at in minibatches(train, settings.batch_size, generator):
            step(networks, optimiser, *batch(at), rows.loss)
        with torch.no_grad():
            x, y = batch(held_out)
            now = losses(networks(x), y, rows.loss)
        if not bool((now.mean(1) < DIVERGED).all()):
            raise EstimationError(
                f"pair {rows.name!r}: the reconstruction diverges at epoch {epoch}.\nExpected a "
                f"held-out loss below {DIVERGED:g}, got {float(now.mean(1).max()):.3g} with "
                f"{option('Reconstruction.lr')}={settings.lr:g}; lower it."
            )
        better = now.mean(1) < best_loss.mean(1)
        best = networks.where(better, best)
        best_loss = torch.where(better[:, None], now, best_loss)
        since = torch.where(better, 0, since + 1)
        if bool((since >= settings.patience).all()):
            break
    return best, best_loss


@dataclass(frozen=True)
class ReconstructionInformation:
    """Answers of the estimator for one pair; `rows` reads those that the state was made from."""

    state: ReconstructionState
    rows: Callable[[], PairRows]
    settings: ReconstructionSettings

    def single(self, targets: Tensor) -> Tensor:
        """Information of each channel alone with the target rows; nats, (channels,)."""
        return nats(
            self._of(self.state.nothing, targets),
            self._of(self.state.alone, targets),
            self.state.loss,
            self.settings.resolution,
        )

    def joint(self, targets: Tensor) -> float:
        """Information of all channels with the target rows, nats, mean over the repeats."""
        nothing, joint = (self._of(t, targets) for t in (self.state.nothing, self.state.joint))
        return float(nats(nothing, joint, self.state.loss, self.settings.resolution).mean())

    def eliminate(self, targets: Tensor) -> ReconstructionElimination:
        """Backward elimination of the pair's channels, all present at first.

        Parameters
        ----------
        targets : indices of the target rows that count; a discrete target is one row.
        """
        return self.eliminate_in_order(targets, range(len(self.state.alone)))

    def eliminate_in_order(
        self, targets: Tensor, order: Sequence[int]
    ) -> ReconstructionElimination:
        """The same; `order` says which channels are tried side by side with the next one."""
        alive = self._alive(targets)
        return ReconstructionElimination(
            self.state.networks, self.rows(), self.settings, alive, order
        )

    def _of(self, values: Tensor, targets: Tensor) -> Tensor:
        discrete = self.state.loss == "cross entropy"
        return values if discrete else values[..., self._alive(targets)]

    def _alive(self, targets: Tensor) -> Tensor:
        """Targets that are not constant: of the others there is nothing to tell."""
        targets = targets.to(self.state.nothing.device)
        if self.state.loss == "cross entropy":
            return targets
        return targets[self.state.nothing[targets] > 0]
