"""One run as the report needs it: read once from its stage folders."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from mipp.disk.manifest import Manifest
from mipp.disk.workdir import read_manifest, read_timing
from mipp.errors import WorkdirError
from mipp.needed_stages import is_needed
from mipp.selection.selection import Selection

STAGES = ("train", "extract", "estimate", "choose", "prune", "finetune", "evaluate")
NEEDED = ("train", "choose", "prune", "finetune", "evaluate")
History = Sequence[Mapping[str, Any]]
Point = Mapping[str, Any]  # of the trade-off curve, see `mipp.pruning.frontier.FrontierPoint`
Plane = tuple[Sequence[Mapping[str, Any]], Mapping[str, Any]]  # points, and how they were measured


@dataclass(frozen=True)
class Unit:
    """One channel of a group; `value` is what it was judged by, nats added or a score."""

    channel: int
    value: float
    kept: bool
    why: str  # "floor": kept only by choose.min_channels; "" where the method gives no reason


@dataclass(frozen=True)
class Pixels:
    """The network's input as selection saw it, arrays of the image's shape (h, w)."""

    kept: npt.NDArray[np.bool_]
    alone: npt.NDArray[np.float64]  # nats of each pixel alone with the first layer


@dataclass(frozen=True)
class Run:
    """What the stage folders of one run say."""

    metrics: Mapping[str, Any]
    params: Mapping[str, Any]  # sections of all stages that are there
    selection: Selection
    summary: Mapping[str, Any]  # of choose
    units: Mapping[str, Sequence[Unit]]  # group -> units, groups from the inputs to the outputs
    fits: Sequence[Mapping[str, Any]]  # of the refit, per layer; empty without one
    history: Mapping[str, History]  # train, finetune -> epochs
    timings: Mapping[str, Mapping[str, Any]]  # stage that the method needs -> seconds, peak memory
    manifests: Mapping[str, Manifest]
    pixels: Pixels | None = None  # where selection went on to the input
    trade_off: Mapping[str, Any] | None = None  # where networks were tried: points, and of what
    rounds: Sequence[Mapping[str, Any]] = ()  # where it was pruned in several
    plane: Plane | None = None  # where `mipp plane` measured this very run

    def by_information(self) -> bool:
        """Whether units were judged by nats, and not by the score of another method."""
        return "information" in self.summary

    def epochs_after_pruning(self) -> int:
        """Epochs that were run after pruning: of fine-tuning, or of all training."""
        return len(self.history["finetune"])

    def untrained(self) -> str:
        """Key of the network that stands for pruning without labels: the last repair."""
        made = [k for k in ("distilled", "refit", "recalibrated") if self.accuracy(k) is not None]
        return made[0] if made else "pruned"

    def accuracy(self, network: str) -> float | None:
        """Share of correct test images; None for a network that was not made."""
        value: float | None = self.metrics[f"accuracy_{network}"]
        return value


def read_run(workdir: Path) -> Run:
    """Everything the report says about a run.

    Raises
    ------
    WorkdirError : a stage that the report cannot do without is missing.
    """
    found = {stage: read_manifest(workdir / stage) for stage in STAGES}
    manifests = {stage: m for stage, m in found.items() if m is not None}
    for stage in NEEDED:
        if stage not in manifests:
            raise WorkdirError(
                f"work directory {workdir} holds no whole run: stage {stage!r} is missing.\n"
                f"Expected {workdir / stage}/manifest.json, got none; run `mipp run --workdir "
                f"{workdir}`."
            )
    fits, trade_off = workdir / "prune/fits.json", workdir / "choose/trade_off.json"
    summary = _json(workdir / "choose/summary.json")
    rounds = workdir / "finetune/rounds.json"
    last = workdir / ("finetune" if rounds.exists() else "choose") / "selection.json"
    selection = Selection.from_json(last.read_text())
    ran = [stage for stage in STAGES if is_needed(stage, selection.method)]
    return Run(
        metrics=_json(workdir / "evaluate/metrics.json"),
        params=_sections(manifests),
        selection=selection,
        summary=summary,
        units=_units(workdir / "choose/nodes.parquet", selection),
        fits=_json(fits) if fits.exists() else (),
        history={s: _history(workdir / s / "history.json") for s in ("train", "finetune")},
        timings={stage: t for stage in ran if (t := read_timing(workdir / stage))},
        manifests=manifests,
        pixels=_pixels(workdir / "choose/pixels.parquet", summary),
        trade_off=_json(trade_off) if trade_off.exists() else None,
        rounds=_json(rounds) if rounds.exists() else (),
        plane=_plane(workdir / "plane", manifests),
    )


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def _history(path: Path) -> History:
    """Epochs as training wrote them: counted from 1, and numbers for all that is drawn."""
    epochs = _json(path)
    fits = isinstance(epochs, list) and all(map(_is_epoch, epochs))
    if not fits or [one["epoch"] for one in epochs] != list(range(1, len(epochs) + 1)):
        raise WorkdirError(
            f"history {path} cannot be read.\nExpected epochs from 1 on with their losses and "
            f"accuracies, got {str(epochs)[:80]}; delete {path.parent} and run the stage again."
        )
    drawn: History = epochs
    return drawn


def _is_epoch(one: Any) -> bool:
    if not isinstance(one, dict) or type(one.get("epoch")) is not int:
        return False
    trained = [one.get(f"train_{key}") for key in ("loss", "accuracy")]
    held_out = [one.get(f"validation_{key}", "") for key in ("loss", "accuracy")]
    return all(
        isinstance(value, (int, float))
        for value in (*trained, *(v for v in held_out if v is not None))
    )


def _sections(manifests: Mapping[str, Manifest]) -> dict[str, Any]:
    """Parameters of all stages by section; single keys such as `extract.rows` join theirs."""
    given = [item for manifest in manifests.values() for item in manifest.params.items()]
    sections: dict[str, Any] = {}
    for key, value in given:
        section, dot, field = key.partition(".")
        if dot and "(" not in section:
            sections.setdefault(section, {})[field] = value
    return {**sections, **{key: value for key, value in given if "." not in key}}


def _plane(folder: Path, manifests: Mapping[str, Manifest]) -> Plane | None:
    """None where there is none, or it was measured of other networks."""
    made = read_manifest(folder)
    if made is None or made.inputs != {n: manifests[n].digest() for n in made.inputs}:
        return None
    return pq.read_table(folder / "plane.parquet").to_pylist(), _json(folder / "plane.json")


def _pixels(path: Path, summary: Mapping[str, Any]) -> Pixels | None:
    if not path.exists():
        return None
    columns = pq.read_table(path, columns=["kept", "single_nats"]).to_pydict()
    shape = summary["pixels"]
    kept = np.array(columns["kept"], np.bool_).reshape(shape)
    return Pixels(kept, np.array(columns["single_nats"], np.float64).reshape(shape))


def _units(path: Path, selection: Selection) -> dict[str, list[Unit]]:
    """Units by group, as they were judged when the network was dense, and as they ended."""
    rows = pq.read_table(path).to_pylist()
    kept = {group: set(channels.tolist()) for group, channels in selection.kept.items()}
    groups: dict[str, list[Unit]] = {}
    for row in reversed(rows):  # the table is top-down
        value = row["conditional_nats"] if "conditional_nats" in row else row["score"]
        unit = Unit(row["channel"], value, row["channel"] in kept[row["group"]], row.get("why", ""))
        groups.setdefault(row["group"], []).append(unit)
    return groups
