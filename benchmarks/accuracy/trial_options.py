"""What benchmarks of methods under budgets have in common: their options, and a finished point."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping

from benchmarks.shared.command import add_again, add_data_root
from benchmarks.shared.kept import Point


def add_trial_options(options: argparse.ArgumentParser, networks: Iterable[str]) -> None:
    """Options that say which points are measured.

    Parameters
    ----------
    networks : among which one is asked for.
    """
    add_data_root(options)
    add_again(options)
    options.add_argument("--workload", choices=networks, default="resnet20", help="a network")
    options.add_argument("--budgets", nargs="+", help="such as macs:0.3; without: the workload's")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of all draws")
    options.add_argument("--methods", nargs="+", default=["*"], help="names, or patterns with *")
    options.add_argument("--images", type=int, default=2048, help="calibration images")
    options.add_argument("--test-images", type=int, help="the first, for a quick trial")


def add_precision(options: argparse.ArgumentParser) -> None:
    options.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of fine-tuning: bfloat16 takes two thirds of the time on CPUs that have it",
    )


def told(point: Point, accuracies: Mapping[str, str]) -> str:
    """A finished point on one line.

    Parameters
    ----------
    accuracies : columns, and how they are called.
    """
    found = [f"{title} {point[name]:.2f}" for name, title in accuracies.items() if name in point]
    where = f"{point['budget']}, seed {point['seed']}, {point['method']}"
    return f"{where}: MACs {point['macs']:.1f} %, {', '.join(found)}"
