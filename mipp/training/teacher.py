"""The dense network as a teacher, beside the labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mipp.distill.lessons import Answer, answer
from mipp.distill.loss import share_of_variance
from mipp.distill.matched import Features
from mipp.evaluation import evaluating


@dataclass(frozen=True)
class Teacher:
    """What the dense network says of each batch, as it is augmented.

    Parameters
    ----------
    model : the dense network, on the device of the training; it evaluates, and is left as it is.
    weight : of its answers in the loss, 0 to 1; the labels have what is left.
    temperature : what the logits of both are divided by, so that small probabilities count.
    features : weight, beside both, of what `layers` read.
    layers : layer of the pruned network -> the features that it has of its input in the dense one.

    Source: Hinton et al. (arXiv:1503.02531v1), section 2; the features are those of `mipp.Distill`.

    Example
    -------
    >>> dense = nn.Linear(4, 3).eval()
    >>> x, labels = torch.randn(2, 4), torch.tensor([0, 2])
    >>> logits, loss = Teacher(dense, weight=1.0, temperature=4.0).taught(dense, x, labels, 0.0)
    >>> float(loss.detach())
    0.0
    """

    model: nn.Module
    weight: float
    temperature: float
    features: float = 0.0
    layers: Features = field(default_factory=dict)

    def taught(
        self,
        student: nn.Module,
        inputs: Tensor,
        labels: Tensor,
        label_smoothing: float,
        run: Callable[[Tensor], Any] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits of the student (n, classes), and the loss by labels, answers and features.

        Parameters
        ----------
        run : what is called in the student's place, such as the student compiled.
        """
        made = answer(student, inputs, dict.fromkeys(self.layers), run)
        with evaluating(self.model), torch.no_grad():
            right = answer(self.model, inputs, self.layers)
        (logits, *_), (wanted, *_) = made.outputs, right.outputs
        by_labels = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        loss = (1 - self.weight) * by_labels + self.weight * self._by_answers(logits, wanted)
        return logits, loss + self.features * _by_features(made, right) if self.layers else loss

    def _by_answers(self, logits: Tensor, wanted: Tensor) -> Tensor:
        """KL divergence of softened answers, times the temperature's square: gradients stay."""
        said, told = (F.log_softmax(x / self.temperature, 1) for x in (logits, wanted))
        apart = F.kl_div(said, told, log_target=True, reduction="batchmean")
        return self.temperature**2 * apart

    def tensors(self) -> Mapping[str, Tensor]:
        """What it is made of, by name."""
        return {f"teacher.{name}": tensor for name, tensor in self.model.state_dict().items()}


def _by_features(made: Answer, right: Answer) -> Tensor:
    shares = [share_of_variance(made.read[name], wanted) for name, wanted in right.read.items()]
    return torch.stack(shares).mean()
