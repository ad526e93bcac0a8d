"""The work directory: one folder per stage, complete or absent, with a manifest written last."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mipp.disk.faults import free_space
from mipp.disk.inside import leaves
from mipp.disk.manifest import MadeFrom, Manifest, file_digest, json_object, parse_manifest
from mipp.disk.storage import Workdir
from mipp.disk.whole_files import written_whole
from mipp.errors import WorkdirError
from mipp.process.peak_memory import peak_rss_mb

MANIFEST = "manifest.json"
OUTPUTS = "outputs.json"  # the manifest's outputs alone, for who asks whether these are others
TIMING = "timing.json"
PACKAGES = (
    *("mipp-pruning", "torch", "torchvision", "numpy", "scipy", "zarr", "pyarrow", "pillow"),
    *("timm", "transformers"),  # where they are installed: networks come from them
)


def versions() -> dict[str, str]:
    """Versions that a stage's outputs may depend on."""
    found = {"python": platform.python_version()}
    return found | {package: one for package in PACKAGES if (one := _version(package))}


@cache
def _version(package: str) -> str:
    """Installed version, "" without; read once, as it takes milliseconds."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def require_writable(workdir: Workdir) -> None:
    """Make the work directory, or refuse it before any work is done.

    Raises
    ------
    WorkdirError : it cannot be made or written to.
    """
    try:
        workdir.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=workdir.folder):
            pass
    except OSError as error:
        raise WorkdirError(
            f"work directory {workdir.folder} cannot be written: {error.strerror}.\nExpected a "
            f"folder with write permission, got {error.__class__.__name__}; choose another with "
            "--workdir or change its permissions."
        ) from error
    workdir.require_reachable()


def require_room(folder: Path, size: int, what: str) -> None:
    """Refuse to begin what the disk of a folder, which need not be there yet, has no room for.

    Raises
    ------
    WorkdirError : it has none; says how many bytes are wanted, and free.
    """
    free = free_space(folder)
    if size > free:
        raise WorkdirError(
            f"work directory {folder} has no room for {what}.\nExpected at least {size:,} bytes "
            f"free, got {free:,}; make room, lower extract.rows or data.calibration, or choose "
            "another --workdir."
        )


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a complete stage folder, None when there is none.

    Raises
    ------
    WorkdirError : it names files outside of the folder.
    """
    file = folder / MANIFEST
    return parse_manifest(file.read_bytes(), file) if file.is_file() else None


def read_timing(folder: Path) -> dict[str, Any]:
    """Seconds, peak memory and host of a stage's last run; empty when it has not run.

    Raises
    ------
    WorkdirError : the stage is there, its times are not.
    """
    if not (folder / MANIFEST).exists():
        return {}
    file = folder / TIMING
    values = json_object(file.read_bytes()) if file.is_file() else {}
    numbers = [values.get(key) for key in ("seconds", "peak_rss_mb")]
    if not all(isinstance(one, (int, float)) for one in numbers):
        raise WorkdirError(
            f"times of stage {folder.name!r} cannot be read.\nExpected {file} with seconds "
            f"and peak_rss_mb as the stage wrote them, got {values or 'none'}; delete {folder} "
            "and run the stage again."
        )
    return values


def is_current(folder: Path, manifest: Manifest | None, made_from: MadeFrom) -> bool:
    """Whether a stage folder was made from just this and still holds the same files."""
    if manifest is None or manifest.key() != made_from.key():
        return False
    return not changed_files(folder, manifest)


def changed_files(folder: Path, manifest: Manifest) -> list[Path]:
    """Files of a stage folder that are gone or no longer hold what the stage wrote.

    Links that lead out of it are among them: no stage makes any.
    """
    files = {folder / name: digest for name, digest in manifest.outputs.items()}
    changed = [f for f, digest in files.items() if not f.is_file() or file_digest(f) != digest]
    told = folder / OUTPUTS
    if not told.is_file() or json_object(told.read_bytes()) != manifest.outputs:
        changed.append(told)
    return _leaving(folder) + changed


@contextlib.contextmanager
def stage_folder(workdir: Workdir, made_from: MadeFrom) -> Iterator[Path]:
    """A temporary folder that becomes `<workdir>/<stage>` when the block ends without error.

    The manifest is written last, so that a killed stage leaves the old folder or none. Seconds
    that the block spent elsewhere, before it began, may be left in its timing file.
    """
    require_writable(workdir)
    started = time.perf_counter()
    with written_whole(workdir.folder / made_from.stage) as partial:
        partial.mkdir()
        yield partial
        outputs = {n: file_digest(partial / n) for n in _files(partial) if n != TIMING}
        noted = partial / TIMING
        elsewhere = json.loads(noted.read_text())["seconds"] if noted.exists() else 0.0
        timing = {
            "seconds": time.perf_counter() - started + elsewhere,
            "peak_rss_mb": peak_rss_mb(),
            "host": platform.node(),
        }
        noted.write_text(json.dumps(timing, indent=1))
        (partial / OUTPUTS).write_text(json.dumps(outputs, indent=1, sort_keys=True))
        manifest = Manifest(**asdict(made_from), outputs=outputs)
        (partial / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1, sort_keys=True))


def _files(folder: Path) -> list[str]:
    """Files whose content says what the folder holds; a Zarr group speaks for its chunks."""
    names = []
    for root, folders, files in os.walk(folder):
        if root.endswith(".zarr"):
            folders.clear()
            files = ["zarr.json"]
        names += [str((Path(root) / file).relative_to(folder)) for file in files]
    return sorted(names)


def _leaving(folder: Path) -> list[Path]:
    """Links in a folder that lead out of it."""
    entries = (Path(r, name) for r, folders, files in os.walk(folder) for name in folders + files)
    return [path for path in entries if path.is_symlink() and leaves(folder, path)]
