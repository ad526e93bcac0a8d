"""`mipp plane`: the information plane of a run."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace

import pyarrow.parquet as pq

from mipp.commands.arguments import add_json, add_workdir
from mipp.commands.stage import last_params
from mipp.config import Params, load_params
from mipp.disk.manifest import MadeFrom
from mipp.disk.occupied import occupied
from mipp.disk.storage import Workdir
from mipp.disk.workdir import is_current, read_manifest, stage_folder
from mipp.errors import ConfigError, WorkdirError
from mipp.information.plane import PLANE_ESTIMATORS
from mipp.stages import STAGES, Stage, run_one
from mipp.stages.context import Context
from mipp.stages.plane import PlaneOptions, Row, write_plane
from mipp.stages.stage import made_from, require_current

PLANE = Stage(
    "plane",
    write_plane,  # type: ignore[arg-type]  # takes its options, too
    params=("seed", "data", "model", "train"),
    reads=("train", "prune", "finetune"),
    names=STAGES["train"].names,
)
EPILOG = """\
examples:
  mipp plane --workdir work                                  of a run that is done
  mipp plane --workdir work --estimator cells --resolution 0.1
  mipp plane --workdir work --every 5 --images 500           with less work

The dense network is trained once more, from the same seed, and looked at after every epoch. Points
are in plane/plane.parquet, the figure is in the report.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.epilog = EPILOG
    parser.add_argument(
        "--estimator",
        choices=PLANE_ESTIMATORS,
        default="mixture",
        help="mixture: of layers with Gaussian noise; cells: of values cut in cells (%(default)s)",
    )
    parser.add_argument(
        "--resolution",
        type=float,
        metavar="SHARE",
        help="mixture: of the noise, as a share of a layer's variance (default: 0.3); cells: their "
        "width, as a share of its range (default: 1/30)",
    )
    parser.add_argument("--images", type=int, default=1000, help="for calibration (%(default)s)")
    parser.add_argument("--every", type=int, default=1, help="epochs (%(default)s)")
    add_json(parser, "a list with an object for each point")
    add_workdir(parser)


def run(options: argparse.Namespace) -> int:
    """Measure, unless that is done, write the report anew, and print the last points.

    Raises
    ------
    ConfigError : an option is out of bounds.
    WorkdirError : the run is not done, or out of date.
    """
    chosen = _chosen(options)
    workdir = Workdir.open(options.workdir)
    file = last_params(None, workdir)
    if file is None:
        raise WorkdirError(
            f"work directory {workdir} has no run.\nExpected its params.yaml, got none; run "
            f"`mipp run --workdir {workdir}` first."
        )
    params = load_params(file, [])
    with occupied(workdir, "mipp plane"):
        for stage in STAGES["report"].reads:
            require_current(STAGES[stage], workdir, params)
        _measure(workdir, params, chosen)
        run_one("report", workdir, params)
    rows = pq.read_table(workdir.stage(PLANE.name) / "plane.parquet").to_pylist()
    print(json.dumps(rows) if options.json else _table(workdir, rows))
    return 0


def _chosen(options: argparse.Namespace) -> PlaneOptions:
    resolution = options.resolution
    if resolution is None:
        resolution = PLANE_ESTIMATORS[options.estimator].resolution
    for name, value, least in (("images", options.images, 2), ("every", options.every, 1)):
        if value < least:
            raise ConfigError(
                f"--{name} {value} is too few.\nExpected at least {least}, got {value}; raise it."
            )
    if not 0 < resolution <= 10:
        raise ConfigError(
            f"--resolution {resolution} is out of bounds.\nExpected more than 0 and at most 10, "
            f"got {resolution}; leave it out for the estimator's own."
        )
    return PlaneOptions(options.estimator, resolution, options.images, options.every)


def _measure(workdir: Workdir, params: Params, chosen: PlaneOptions) -> None:
    made = _made_from(workdir, params, chosen)
    folder = workdir.stage(PLANE.name)
    if not is_current(folder, read_manifest(folder), made):
        with stage_folder(workdir, made) as out:
            write_plane(Context(workdir, out, params, made.key()), chosen)
        workdir.keep(PLANE.name)


def _made_from(workdir: Workdir, params: Params, chosen: PlaneOptions) -> MadeFrom:
    made = made_from(PLANE, workdir, params)
    return replace(made, params={**made.params, **asdict(chosen)})


def _table(workdir: Workdir, rows: list[Row]) -> str:
    """Nats of the networks that there are at last, a line per layer."""
    lines = [f"{'network':<10} {'layer':<24} {'I(X; T)':>8} {'I(T; Y)':>8}"]
    lines += [
        f"{row['network']:<10} {row['layer']:<24} {row['inputs']:8.3f} {row['labels']:8.3f}"
        for row in rows
        if row["epoch"] is None
    ]
    return "\n".join([*lines, f"report: {workdir.folder / 'report/report.html'}"])
