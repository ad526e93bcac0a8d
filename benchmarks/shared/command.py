"""A benchmark's command line, how a measurement came about, and processes of its own."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from benchmarks.shared.kept import RESULTS

PACKAGES = ("torch", "torchvision", "numpy", "zarr", "torch-pruning", "mipp-pruning")


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """The description as it is written, and the default of every option."""


def parser(name: str, description: str, page: Path | None = None) -> argparse.ArgumentParser:
    """Command line with the options that all benchmarks take; read it by `parse`.

    Parameters
    ----------
    name : of the module, under `benchmarks`.
    page : that is made of what the benchmark keeps.
    """
    options = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=description, formatter_class=_Help
    )
    made = f", and write {page} of all that is kept" if page else ""
    options.add_argument("--threads", type=int, default=2, help="threads of torch")
    options.add_argument("--write", action="store_true", help=f"keep it in {RESULTS}{made}")
    return options


def add_data_root(options: argparse.ArgumentParser) -> None:
    """The option that says where images and checkpoints are."""
    options.add_argument(
        "--data-root",
        help="folder of the image sets and of checkpoints/; $MIPP_DATA, then ../shared/data, "
        "without it",
    )


def add_again(options: argparse.ArgumentParser) -> None:
    """The option of benchmarks that go on where they stopped."""
    options.add_argument(
        "--again", action="store_true", help="with --write: measure anew what is kept already"
    )


def parse(
    options: argparse.ArgumentParser, given: Sequence[str] | None, fixed: Sequence[str] = ()
) -> argparse.Namespace:
    """Options of a command line, with the command itself.

    Parameters
    ----------
    given : None for what this process was called with.
    fixed : options that what is kept does not name: with `--write` only their defaults will do.
    """
    words = sys.argv[1:] if given is None else [*given]
    found = options.parse_args(words)
    for name in fixed if found.write else ():
        default = options.get_default(name)
        if getattr(found, name) != default:
            option = f"--{name.replace('_', '-')}"
            options.error(
                f"--write keeps results of {option} {default}, got {getattr(found, name)}; "
                f"leave out either of them"
            )
    found.command = shlex.join([*options.prog.split(), *words])
    return found


def fitting(option: str, patterns: Iterable[str], names: Sequence[str]) -> list[str]:
    """The names that fit a pattern, in order; ends the program where a pattern fits none."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            sys.exit("\n  ".join([f"{option}: {pattern!r} fits none of", *names]))
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def circumstances(options: argparse.Namespace) -> dict[str, Any]:
    """What a measurement was made with; printed, too."""
    found: dict[str, Any] = {
        "command": options.command,
        "versions": versions(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }
    print(f"\n{found['command']}\n{where(found)}")
    return found


def versions() -> dict[str, str]:
    """Of Python and of all packages that numbers depend on."""
    found = {package: metadata.version(package) for package in PACKAGES}
    return {"python": platform.python_version(), **found}


def where(found: Mapping[str, Any]) -> str:
    """Machine and versions of a measurement, in words."""
    load = " ".join(map(str, found["load_average"]))
    return (
        f"{found['threads']} threads on {found['cores']} cores, load average {load}; "
        f"{listed(found['versions'])}."
    )


def listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def measured_apart(
    name: str, options: Mapping[str, Any], timeout: float | None = None
) -> dict[str, Any]:
    """What a benchmark measures in a process of its own, and prints there as JSON, last.

    Parameters
    ----------
    options : of its command line, with one value or a tuple of values; None leaves one out.

    Raises
    ------
    subprocess.CalledProcessError, subprocess.TimeoutExpired : it gave no result.
    """
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    for option, value in options.items():
        if value is not None:
            values = value if isinstance(value, tuple) else (value,)
            command += [option, *map(str, values)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    sys.stderr.write(done.stderr)
    done.check_returncode()
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
