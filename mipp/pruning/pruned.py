"""A cut network with its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from mipp.checkpoint import Checkpoint, save_checkpoint
from mipp.export import Exported, export_network
from mipp.inputs import Inputs, Shape
from mipp.pruning.report import PruneReport
from mipp.selection.selection import Selection


@dataclass(frozen=True)
class Pruned:
    """A new, smaller network, the selection that made it, a report, and one input's shape.

    Example
    -------
    >>> import mipp, torch
    >>> net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    >>> pruned = mipp.prune(net, torch.randn(64, 4), "ratio:0.5")
    >>> pruned.model[0].out_features
    3
    """

    model: nn.Module
    selection: Selection
    report: PruneReport
    shape: Shape  # without the batch axis

    def save(self, path: str | Path) -> None:
        """Write one file, whole or not at all: tensors, and what `mipp.load` makes it again by.

        Never a pickle. The network is written as it is now, fine-tuned where it was.
        """
        save_checkpoint(Path(path), Checkpoint(self.model, None, self.selection, self.shape))

    def export(
        self,
        folder: str | Path,
        *,
        kinds: Sequence[str] = ("torch",),
        inputs: Inputs | Shape | None = None,
    ) -> tuple[Exported, ...]:
        """Write programs that need neither mipp nor the network's code, each compared with it.

        Parameters
        ----------
        folder : where the files go; made if need be.
        kinds : `torch` writes `model.pt2`, `onnx` writes `model.onnx`.
        inputs : examples or shapes, as `mipp.export_network` takes them; those of the calibration
            if none are given.

        Raises
        ------
        ConfigError, ModelError, ExportError : as of `mipp.export_network`.
        """
        given = self.shape if inputs is None else inputs
        return export_network(self.model, given, Path(folder), kinds=kinds)

    def _repr_html_(self) -> str:
        return self.report._repr_html_()
