"""What mends a network that was cut, without training and without labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from mipp.activations import Sampling
from mipp.graph import ChannelGraph
from mipp.pruning.calibration import Calibration
from mipp.refit import LayerFit, RefitSettings, rebase, recalibrate, refit
from mipp.selection.selection import Selection
from mipp.settings import NoRepair, Recalibrate, Refit, Repair


@dataclass(frozen=True)
class Cut:
    """A network that was cut, and the dense one with its graph."""

    model: nn.Module
    dense: nn.Module
    graph: ChannelGraph
    selection: Selection


def mend(cut: Cut, repair: Repair, calibration: Calibration, seed: int) -> list[LayerFit]:
    """Repair a cut network in place; says what was fitted, layer by layer.

    Parameters
    ----------
    seed : of the rows that a refit samples.
    """
    return REPAIRS[type(repair)](cut, repair, calibration, seed)


def _refit(cut: Cut, repair: Refit, calibration: Calibration, seed: int) -> list[LayerFit]:
    settings = RefitSettings(repair.ridge, Sampling(repair.rows, calibration.count(), seed))
    fits = refit(cut.model, cut.dense, cut.graph, cut.selection, calibration.at_once, settings)
    rebase(cut.model, calibration.inputs())
    return fits


def _recalibrate(cut: Cut, _: Recalibrate, calibration: Calibration, seed: int) -> list[LayerFit]:
    recalibrate(cut.model, calibration.inputs())
    return []


def _leave(*_: Any) -> list[LayerFit]:
    return []


REPAIRS: Mapping[type[Any], Callable[[Cut, Any, Calibration, int], list[LayerFit]]] = {
    Refit: _refit,
    Recalibrate: _recalibrate,
    NoRepair: _leave,
}
