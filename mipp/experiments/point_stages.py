"""Which stages make a point: those of a run, and those that a control puts in their place."""

from __future__ import annotations

from dataclasses import replace

from mipp.config import Params
from mipp.experiments.controls import choose_random_units, prune_and_draw_anew
from mipp.sources import code_hash, file_hash
from mipp.stages import STAGES, Stage
from mipp.stages.stage import stage_modules

RANDOM_CHOICE = Stage("choose", choose_random_units, ("seed",), ("train", "extract", "estimate"))
DRAWN_ANEW = replace(STAGES["prune"], body=prune_and_draw_anew)
ANEW = ("re-initialised", "small-dense")  # controls whose weights are drawn anew


def stages_of(method: str) -> list[Stage]:
    """The stages that a point's result comes from; no report is written of one."""
    stages = [stage for name, stage in STAGES.items() if name != "report"]
    if method == "random-same-widths":
        stages.append(RANDOM_CHOICE)
    if method in ANEW:
        stages[stages.index(STAGES["prune"])] = DRAWN_ANEW
    return stages


def point_code(method: str, params: Params) -> str:
    """SHA-256 of the sources that a point's result comes from."""
    modules = {m for stage in stages_of(method) for m in stage_modules(stage, params)}
    return code_hash(tuple(sorted(modules))) + file_hash("mipp.experiments.engine")
