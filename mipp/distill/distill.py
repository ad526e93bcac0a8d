"""Training of a pruned network by the dense network's answers, judged on inputs held out."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from mipp.axes import faster_order, order_axes
from mipp.distill.lessons import Lessons, at_once, batches_of, shuffled
from mipp.distill.loss import loss_of, mean_error
from mipp.distill.matched import kept_features
from mipp.distill.views import views_for
from mipp.errors import ModelError, reason_of
from mipp.evaluation import evaluating, forget, norms_training, norms_with_statistics
from mipp.graph import ChannelGraph
from mipp.inputs import Inputs
from mipp.progress import track
from mipp.selection.selection import Selection
from mipp.settings import Distill

SEEN = 2  # times that every view is learned from, about
MOST = 128  # views of an input
CHECKS = 10  # parts of a training; after each of its second half the best state is looked for
MOMENTUM = 0.1  # of the statistics of batch-norms meanwhile


@dataclass(frozen=True)
class Distilled:
    """What a distillation came to.

    Errors are squared ones of the outputs, as a share of the variance of the dense network's,
    summed over tensors, on the inputs held out. `left` says why the network is as it was before,
    where it is.
    """

    inputs: int
    held_out: int
    steps: int
    before: float
    after: float
    left: str = ""

    def __str__(self) -> str:
        judged = f"on {self.held_out} calibration inputs held out"
        if self.left:
            return f"not distilled: {self.left}; {judged} its outputs err by {self.before:.3g}"
        return (
            f"distilled on {self.inputs} inputs in {self.steps} steps: {judged} its outputs err by "
            f"{self.after:.3g} of their variance, by {self.before:.3g} without"
        )


def distill(
    pruned: nn.Module,
    dense: nn.Module,
    graph: ChannelGraph,
    selection: Selection,
    learned: Sequence[Inputs],
    judged: Sequence[Inputs],
    settings: Distill,
    seed: int,
) -> Distilled:
    """Train a pruned network, in place, to answer as the dense one does; no labels are needed.

    The loss is the squared error of the outputs, as a share of their variance, with that of what
    some layers read. Batch-norms normalise by their batch meanwhile, everything else evaluates. Of
    the states that were looked at the best is kept, the first among them, by the outputs on inputs
    that are held out: on these the network is never worse than it was.

    Parameters
    ----------
    learned, judged : single inputs, shape (1, ...), to train on and to judge by, see `held_out`.
    seed : of the order of the inputs.
    """
    exam = Lessons(batches_of(judged), dense, {})
    best = first = _State.of(pruned, exam, 0)
    weights = [p for p in pruned.parameters() if p.requires_grad and p.is_floating_point()]
    if not learned or not weights:
        why = "its parameters are frozen, or it has none" if learned else "it takes two inputs"
        return Distilled(len(learned), len(judged), 0, first.error, first.error, why)
    generator = torch.Generator("cpu").manual_seed(seed)
    count = min(MOST, math.ceil(settings.steps * at_once(learned[0]) / (SEEN * len(learned))))
    views = views_for(dense, exam.at(0)[0], settings.views, count, generator)
    layers = kept_features(dense, graph, selection) if settings.stages else {}
    lessons = Lessons(batches_of(learned, views, generator), dense, layers)
    why = "training did not make it better"
    try:
        order_axes(pruned, faster_order(pruned, lambda: learned[0]))
        norms = [n for n in norms_with_statistics(pruned) if _is_trained(n)]
        with evaluating(pruned), norms_training(norms, MOMENTUM), torch.enable_grad():
            for steps in _train(pruned, weights, lessons, settings, generator):
                state = _State.of(pruned, exam, steps)
                best = state if state.error < best.error else best
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ModelError) as error:  # of its own code, which may run in evaluation only
        why = f"it cannot be trained: {reason_of(error)}"
    finally:
        order_axes(pruned, torch.contiguous_format)
    best.restore(pruned)
    left = why if best is first else ""
    return Distilled(len(learned), len(judged), best.steps, first.error, best.error, left)


def _train(
    model: nn.Module,
    weights: Sequence[Tensor],
    lessons: Lessons,
    settings: Distill,
    generator: torch.Generator,
) -> Iterator[int]:
    """Trains, and says now and then how many steps were made; ends early where nothing is learned.

    Where time runs short, steps are left out evenly, so that the schedule comes to its end.
    """
    optimizer = torch.optim.Adam(weights, lr=settings.lr)
    schedule = OneCycleLR(optimizer, settings.lr, total_steps=settings.steps)
    order = _forever(len(lessons), generator)
    started, made = time.monotonic(), 0
    for tick in track(range(settings.steps), total=settings.steps, label="distill"):
        spent = (time.monotonic() - started) / (settings.seconds or math.inf)
        if tick >= spent * settings.steps - 1:
            if made:
                schedule.last_epoch = tick - 1
                schedule.step()
            forget(model)
            inputs, right = lessons.at(next(order))
            loss = loss_of(model, inputs, right, settings.stages)
            if not loss.requires_grad or not loss.isfinite():
                return
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            made += 1
        part = (tick + 1) * CHECKS // settings.steps
        if part > tick * CHECKS // settings.steps and part > CHECKS // 2:
            forget(model)
            yield made


def _forever(count: int, generator: torch.Generator) -> Iterator[int]:
    """Places of all batches, in another order each time, without end."""
    while True:
        yield from shuffled(count, generator)


def _is_trained(norm: nn.Module) -> bool:
    return all(parameter.requires_grad for parameter in norm.parameters())


@dataclass(frozen=True)
class _State:
    """A copy of all tensors of a network, with its error on inputs held out."""

    steps: int
    error: float
    tensors: Sequence[Tensor]

    @classmethod
    def of(cls, model: nn.Module, exam: Lessons, steps: int) -> _State:
        """The network as it stands after so many steps."""
        error = mean_error(model, exam)
        tensors = [tensor.detach().clone() for tensor in _tensors(model)]
        return cls(steps, error if math.isfinite(error) else math.inf, tensors)

    def restore(self, model: nn.Module) -> None:
        """Give the network these tensors again, in place, and no gradients."""
        with torch.no_grad():
            for tensor, value in zip(_tensors(model), self.tensors, strict=True):
                tensor.copy_(value)
        forget(model)
        for parameter in model.parameters():
            parameter.grad = None


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
