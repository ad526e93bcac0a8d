"""Selections behind the kept evidence, computed again: the hashes of `kept_selections.json`.

Sweeps whose points cost minutes each are left out, and so are their slow criteria.

    python tests/experiments/test_kept_selections.py

writes the hashes anew, after results have changed.
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from mipp.errors import InputError
from mipp.experiments.points import expand
from mipp.experiments.results import read_table
from mipp.experiments.shared import run_shared
from mipp.experiments.spec import load_experiment
from mipp.selection.selection import Selection

ROOT = Path(__file__).parents[2]
HASHES = Path(__file__).with_name("kept_selections.json")
SWEEPS = (
    "digits",
    "confidence",
    "calibration-rows",
    "param-weight",
    "lenet5-mnist",
    "lenet5-mnist-deformed",
    "resnet20-cifar10",
)
CONTROLS = {"dense", "random-same-widths", "re-initialised", "small-dense"}
MINUTES = {"resnet20-cifar10": {"grasp", "sosp-h", "taylor"}, "lenet5-mnist": {"grasp", "sosp-h"}}


def points_of(name):
    """Points of a sweep at scale small whose selection is their own, by what they are."""
    left_out = CONTROLS | MINUTES.get(name, set())
    points = expand(load_experiment(ROOT / f"experiments/{name}.yaml", "small"))
    kept = [point for point in points if point.method not in left_out]
    return {identity(point.identity()): point for point in kept}


def identity(row):
    parts = (row["start"], row["method"], row["budget"], f"seed {row['seed']}", row["variant"])
    return " ".join(filter(None, parts))


def selection_of(root, point):
    """What `choose` decides; one network is trained for all points of a seed."""
    file = run_shared(root, point.params)["choose"] / "selection.json"
    return Selection.from_json(file.read_text())


def hash_of(selection):
    kept = {group: channels.tolist() for group, channels in sorted(selection.kept.items())}
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()[:16]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


@pytest.mark.slow
@pytest.mark.parametrize("name", SWEEPS)
def test_selections_behind_the_evidence_are_what_they_were(root, name):
    expected = json.loads(HASHES.read_text())[name]
    try:
        points = points_of(name)
        found = {which: hash_of(selection_of(root, point)) for which, point in points.items()}
    except InputError as error:
        pytest.skip(f"no data: {error}")
    assert found == expected


@pytest.mark.parametrize("name", SWEEPS)
def test_every_point_whose_selection_is_had_in_seconds_has_a_hash(name):
    rows, _ = read_table(ROOT / f"experiments/results/{name}.parquet")
    measured = {identity(row) for row in rows}
    left_out = CONTROLS | MINUTES.get(name, set())
    own = {which for which in measured if which.split()[1] not in left_out}
    assert json.loads(HASHES.read_text())[name].keys() == own


def main():
    """Write the hashes, and say of which points the kept widths differ."""
    torch.set_num_threads(1)
    hashes = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in SWEEPS:
            rows, _ = read_table(ROOT / f"experiments/results/{name}.parquet")
            widths = {identity(row): json.loads(row["widths"]) for row in rows}
            found = {}
            for which, point in points_of(name).items():
                selection = selection_of(Path(folder), point)
                found[which] = hash_of(selection)
                if widths.get(which) != selection.counts():
                    sys.stderr.write(f"{name}: {which}: widths differ from those kept\n")
            hashes[name] = found
    HASHES.write_text(json.dumps(hashes, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
