"""What mends a network that was cut, without labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from mipp.activations import Sampling
from mipp.distill import Distilled, distill, held_out
from mipp.graph import ChannelGraph
from mipp.inputs import Inputs, count, each, joined
from mipp.pruning.calibration import Calibration
from mipp.refit import (
    LayerFit,
    RefitSettings,
    output_error,
    outputs_of,
    recalibrate,
    refit,
)
from mipp.selection.selection import Selection
from mipp.settings import Distill, NoRepair, Recalibrate, Refit, Repair

JUDGED = 8  # inputs, at most, on which a network with a repair is compared with one without


@dataclass(frozen=True)
class Cut:
    """A network that was cut, and the dense one with its graph."""

    model: nn.Module
    dense: nn.Module
    graph: ChannelGraph
    selection: Selection


@dataclass(frozen=True)
class Mended:
    """What a repair did: fits layer by layer, and what a distillation came to."""

    fits: list[LayerFit] = field(default_factory=list)
    distilled: Distilled | None = None


def mend(cut: Cut, repair: Repair, calibration: Calibration, seed: int) -> Mended:
    """Repair a cut network in place.

    Parameters
    ----------
    seed : of the rows that a refit samples, and of the order in which a distillation sees inputs.
    """
    return REPAIRS[type(repair)](cut, repair, calibration, seed)


def _refit(cut: Cut, repair: Refit, calibration: Calibration, seed: int) -> Mended:
    return _refit_to(calibration.inputs, calibration.count(), cut, repair, seed)


def _refit_to(
    batches: Callable[[], Iterable[Inputs]], images: int, cut: Cut, repair: Refit, seed: int
) -> Mended:
    """The refit, unless the network's outputs are worse with it than without."""
    sampling = Sampling(repair.rows, images, seed)
    settings = RefitSettings(repair.ridge, sampling, norms="own")
    judged = each(next(iter(batches())), lambda tensor: tensor[:JUDGED])
    wanted = outputs_of(cut.dense, judged)
    state = {name: tensor.clone() for name, tensor in cut.model.state_dict().items()}
    before = output_error(outputs_of(cut.model, judged), wanted)
    fits = refit(cut.model, cut.dense, cut.graph, cut.selection, batches, settings)
    after = output_error(outputs_of(cut.model, judged), wanted)
    if after <= before or not math.isfinite(before):
        return Mended(fits)
    cut.model.load_state_dict(state)
    why = (
        "its weights were left as they are: with fitted ones the network's outputs err by "
        f"{after:.3g} of their variance on {count(judged)} calibration inputs, without by "
        f"{before:.3g}"
    )
    left = [replace(fit, error_after=fit.error_before, left=fit.left or why) for fit in fits]
    return Mended(left)


def _distill(cut: Cut, repair: Distill, calibration: Calibration, seed: int) -> Mended:
    """The refit, if any, then distillation; neither sees the inputs by which it is judged."""
    learned, judged = held_out(calibration.inputs())
    seen, size = learned or judged, count(next(iter(calibration.inputs())))

    def batches() -> Iterable[Inputs]:
        return (joined(seen[i : i + size]) for i in range(0, len(seen), size))

    mended = _refit_to(batches, len(seen), cut, repair.refit, seed) if repair.refit else Mended()
    done = distill(cut.model, cut.dense, cut.graph, cut.selection, learned, judged, repair, seed)
    return replace(mended, distilled=done)


def _recalibrate(cut: Cut, _: Recalibrate, calibration: Calibration, seed: int) -> Mended:
    recalibrate(cut.model, calibration.inputs())
    return Mended()


def _leave(*_: Any) -> Mended:
    return Mended()


REPAIRS: Mapping[type[Any], Callable[[Cut, Any, Calibration, int], Mended]] = {
    Refit: _refit,
    Distill: _distill,
    Recalibrate: _recalibrate,
    NoRepair: _leave,
}
