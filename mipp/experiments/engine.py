"""One point: shared stages linked, its own stages run, one JSON file left, complete or absent."""

from __future__ import annotations

import json
import platform
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from mipp.disk.storage import Workdir
from mipp.disk.whole_files import locked, write_whole
from mipp.disk.workdir import read_timing, versions
from mipp.experiments.controls import WIDTHS, for_equal_compute
from mipp.experiments.methods import searches
from mipp.experiments.point_stages import ANEW, DRAWN_ANEW, RANDOM_CHOICE
from mipp.experiments.points import Point
from mipp.experiments.shared import lock_of, run_shared
from mipp.origin import commit
from mipp.stages import STAGES, epochs_after_pruning, run_stage
from mipp.stages.evaluate import NETWORKS
from mipp.stages.files import final_selection, load_selection, read_json
from mipp.stages.sharing import link_stages
from mipp.stages.splits import load_splits


def result_file(root: Path, point: Point) -> Path:
    """Where a point's result lies once it is complete."""
    return root / "points" / f"{point.name}.json"


def run_point(root: Path, point: Point) -> Path:
    """Result file of a point; one that is there is not computed again.

    A kill in between leaves shared stages, each complete or absent, and a work directory that
    the next call goes on with. That directory is removed once the result is there.
    """
    file, workdir = result_file(root, point), root / "work" / point.name
    with locked(lock_of(root, point.name)):
        if not file.exists():
            write_whole(file, json.dumps(_compute(root, workdir, point), indent=1, sort_keys=True))
        shutil.rmtree(workdir, ignore_errors=True)
    return file


def _compute(root: Path, workdir: Path, point: Point) -> dict[str, Any]:
    """All columns of a point's row."""
    folders = run_shared(root, point.params)
    workdir.mkdir(parents=True, exist_ok=True)
    if point.method == "random-same-widths":
        link_stages(workdir / WIDTHS, {"choose": folders["choose"]})
        link_stages(workdir, {name: folder for name, folder in folders.items() if name != "choose"})
        run_stage(RANDOM_CHOICE, Workdir(workdir), point.params)
    else:
        link_stages(workdir, folders)
    counts = load_selection(workdir).counts()
    metrics = _metrics(workdir, point) if all(counts.values()) else _collapsed(workdir, point)
    return {
        **point.identity(),
        **metrics,
        "widths": final_selection(workdir).counts(),
        "widths_dense": dict(load_selection(workdir).width),
        "seconds_search": sum(
            read_timing(folders[stage])["seconds"] for stage in searches(point.method)
        ),
        "host": platform.node(),
        "commit": commit(),
        "versions": versions(),
    }


def _metrics(workdir: Path, point: Point) -> dict[str, Any]:
    """Prune, train and evaluate; the numbers of `evaluate`, and epochs after pruning."""
    params = point.params
    run_stage(DRAWN_ANEW if point.method in ANEW else STAGES["prune"], Workdir(workdir), params)
    if point.method == "small-dense":
        params = for_equal_compute(workdir, params)
    for stage in ("finetune", "evaluate"):
        run_stage(STAGES[stage], Workdir(workdir), params)
    metrics: dict[str, Any] = read_json(workdir / "evaluate/metrics.json")
    return {**metrics, "epochs_after_pruning": epochs_after_pruning(workdir)}


def _collapsed(workdir: Path, point: Point) -> dict[str, Any]:
    """What is known of a network that cannot be: it has lost a whole group, and answers one class.

    No size is given; accuracy is that of the best constant answer.
    """
    selection = load_selection(workdir)
    labels = load_splits(point.params).test.labels.numpy()
    chance = float(np.bincount(labels).max() / len(labels))
    return {
        **{f"accuracy_{name}": chance for name in NETWORKS},
        "test_images": len(labels),
        "units_removed": selection.units_removed(),
        "collapsed": True,
        "collapsed_groups": [group for group, count in selection.counts().items() if not count],
        "near_collapsed_groups": [],
        "pruned_when": point.start,
        "epochs_after_pruning": 0,
    }
