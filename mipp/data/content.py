"""What the files of a set hold, so that a stage runs again when they were replaced in place."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from pkgutil import resolve_name

from mipp.config import DataConfig
from mipp.disk.manifest import file_digest
from mipp.disk.storage import cache_folder
from mipp.disk.whole_files import write_whole
from mipp.errors import DataError
from mipp.progress import track

FILES_OF = {  # by data.name: the files that the set lies in
    "parquet": "mipp.data.parquet:files_of",
    "image-folder": "mipp.data.image_folder:files_of",
    "webdataset": "mipp.data.webdataset:files_of",
    "huggingface": "mipp.data.huggingface:files_of",
    **dict.fromkeys(
        ("mnist", "fashion-mnist", "cifar10", "cifar100"), "mipp.data.torchvision_sets:files_of"
    ),
}
READ_WHOLE = 200_000  # files, at most; of more only names, sizes and times of change count
FRESH = 2 * 10**9  # ns; a file that changed so lately may change again at the same time of change

_Known = dict[str, tuple[int, int, str]]  # path -> size, time of change, sha256


def content_of(config: DataConfig) -> str:
    """SHA-256 of the files of the configured set; empty where it lies in none.

    A file is read once, and again when its size or its time of change is another. Of a set of more
    than 200,000 files none is read: names, sizes and times of change stand for their content. A
    set of yours is what lies under `data.root`; where that is not given, its code alone counts.

    Raises
    ------
    DataError : the set is not there, or a file of it cannot be read.
    """
    name = config.name.removesuffix("-deformed")
    if name in FILES_OF:
        files = resolve_name(FILES_OF[name])(config)
    else:
        files = files_under(Path(config.root).expanduser()) if config.root else []
    return _digest(files) if files else ""


def files_under(place: Path) -> list[Path]:
    """A file, or all files below a folder."""
    if place.is_file():
        return [place]
    return [Path(folder) / name for folder, _, names in os.walk(place) for name in names]


def _digest(files: Sequence[Path]) -> str:
    top = os.path.realpath(os.path.commonpath([file.parent for file in files]))
    found = {}
    for file in sorted(files):
        with suppress(OSError):  # of links that lead nowhere, which decoding will name
            status = file.stat()
            if stat.S_ISREG(status.st_mode):  # a pipe or a device never ends
                name = os.path.relpath(os.path.realpath(file), top)
                found[name] = (status.st_size, status.st_mtime_ns)
    if len(found) > READ_WHOLE:
        return _sha256(json.dumps(found))
    place = cache_folder() / "content" / f"{_sha256(top)[:16]}.json"
    known = _read(place)
    new = {name: found[name] for name in found if known.get(name, ())[:2] != found[name]}
    hashes = {name: known[name][2] for name in found if name not in new}
    for name in track(new, total=len(new), label="files of the data set"):
        hashes[name] = _hash(Path(top, name))
    if new:
        _keep(place, known | {name: (*new[name], hashes[name]) for name in new})
    return _sha256(json.dumps(sorted(hashes.items())))


def _hash(file: Path) -> str:
    try:
        return file_digest(file)
    except OSError as error:
        raise DataError(
            f"file {file} of the data set cannot be read.\nExpected one that can be opened, got: "
            f"{error.strerror}; give it back its permissions, or remove it."
        ) from error


def _read(place: Path) -> _Known:
    """Hashes that were kept; none where that file is gone or damaged."""
    with suppress(OSError, ValueError, TypeError, AttributeError, RecursionError):
        kept = json.loads(place.read_text())
        return {
            name: (int(size), int(at), str(digest)) for name, (size, at, digest) in kept.items()
        }
    return {}


def _keep(place: Path, known: Mapping[str, tuple[int, int, str]]) -> None:
    """For the next time; where nothing can be written, files are read again then."""
    until = time.time_ns() - FRESH
    with suppress(OSError):
        write_whole(place, json.dumps({n: one for n, one in known.items() if one[1] < until}))


def _sha256(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()
