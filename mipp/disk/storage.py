"""Work directories kept elsewhere (`s3://`, `gs://`, ...): the local mirror that stages work in.

A mirror is a folder whose `.origin.json` names the address that it mirrors; every other folder
is its own home, and nothing here touches it. An address holds what a local work directory does.
`manifest.json` of a stage is its last object to arrive and its first to go, so that whatever
else is there of a stage without one counts for nothing. Activation stores are not mirrored:
they are read in place, chunk by chunk.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from mipp.disk.manifest import file_digest, json_object, parse_manifest
from mipp.disk.whole_files import locked, write_whole, written_whole
from mipp.errors import StorageError

ORIGIN = ".origin.json"
LAST = "manifest.json"
EXTRAS = {"s3": "s3", "gs": "gs", "gcs": "gs"}  # protocol -> extra of mipp-pruning


@dataclass(frozen=True)
class Workdir:
    """A folder to work in, and the URL that it mirrors, where it mirrors one.

    Made once, by `open`, wherever an address comes in.
    """

    folder: Path
    url: str | None = None

    @classmethod
    def open(cls, address: str | Path) -> Workdir:
        """The folder that was named, or the mirror of a URL.

        Parameters
        ----------
        address : folder, or URL that fsspec can open. Mirrors are kept in $MIPP_CACHE, else in
            ~/.cache/mipp; they may be deleted whenever nothing runs.

        Raises
        ------
        StorageError : the protocol is unknown, or its package is not installed; a folder that is no
            mirror says that it is one.
        """
        protocol, separator, rest = str(address).partition("://")
        if not separator or protocol == "file":
            folder = Path(rest if separator else address)
            return cls(folder, _origin(folder))
        url = str(address).rstrip("/")
        _filesystem(url)
        mirror = _mirror(url)
        mirror.mkdir(parents=True, exist_ok=True)
        if _origin(mirror) is None:
            write_whole(mirror / ORIGIN, json.dumps({"url": url}))
        return cls(mirror, url)

    def __str__(self) -> str:
        """As `--workdir` takes it."""
        return self.url or str(self.folder)

    @property
    def address(self) -> str:
        """What another machine opens to find the same work directory."""
        return self.url or str(self.folder.resolve())

    def location(self, group: Path) -> Path | str:
        """Where to read a Zarr group: here, or in place at the URL."""
        here = self.folder / group
        chunks = here.is_dir() and any(path.is_dir() for path in here.iterdir())
        return here if self.url is None or chunks else f"{self.url}/{group}"

    def stage(self, name: str) -> Path:
        """The folder of a stage, made that at the URL; complete, or as it was.

        Chunks of Zarr groups stay where they are. What is only here stays too: it is what a
        killed upload left, and `keep` sends it.

        Raises
        ------
        StorageError : a file is missing, or is not the one that the stage wrote.
        """
        folder = self.folder / name
        if self.url is None:
            return folder
        with locked(self.folder / ".lock"):
            there = f"{self.url}/{name}"
            text = _read(f"{there}/{LAST}")
            manifest = text and parse_manifest(text, f"{there}/{LAST}")
            if text and manifest and text != _local(folder / LAST):
                with written_whole(folder) as partial:
                    partial.mkdir()
                    _download(there, partial, manifest.outputs)
                    (partial / LAST).write_bytes(text)
        return folder

    def keep(self, stage: str) -> None:
        """Send a complete stage folder to the URL, unless it is there; the manifest goes last."""
        if self.url is None:
            return
        folder, target = self.folder / stage, f"{self.url}/{stage}"
        manifest = (folder / LAST).read_bytes()
        if _read(f"{target}/{LAST}") == manifest:
            return
        with _reporting(target):
            files = _filesystem(self.url)
            if files.exists(f"{target}/{LAST}"):
                files.rm_file(f"{target}/{LAST}")
            if files.exists(target):
                files.rm(target, recursive=True)
            names = [path for path in sorted(folder.rglob("*")) if path.is_file()]
            sent = [part for path in names if str(part := path.relative_to(folder)) != LAST]
            here = [str(folder / part) for part in sent]
            files.put(here, [f"{target}/{part}" for part in sent])
            files.pipe_file(f"{target}/{LAST}", manifest)

    def file(self, name: str | Path) -> Path | None:
        """A single file, brought from the URL if it was not here; None while there is none."""
        here = self.folder / name
        if self.url is not None and not here.exists():
            found = _read(f"{self.url}/{name}")
            if found is not None:
                write_whole(here, found)
        return here if here.exists() else None

    def keep_file(self, name: str | Path) -> None:
        """Send a single file to the URL, whole or not at all."""
        if self.url is not None:
            with _reporting(f"{self.url}/{name}"):
                _filesystem(self.url).put_file(str(self.folder / name), f"{self.url}/{name}")

    def current(self, name: str) -> bytes | None:
        """Content of a single file as it is now, at the URL where there is one."""
        return _local(self.folder / name) if self.url is None else _read(f"{self.url}/{name}")

    def remove_file(self, name: str) -> None:
        """Remove a single file, here and at the URL."""
        (self.folder / name).unlink(missing_ok=True)
        if self.url is not None:
            with _reporting(f"{self.url}/{name}"), contextlib.suppress(FileNotFoundError):
                _filesystem(self.url).rm_file(f"{self.url}/{name}")

    def forget(self, prefix: str) -> None:
        """Remove the folders whose name starts so, here and at the URL."""
        for old in self.folder.glob(f"{prefix}*"):
            shutil.rmtree(old)
        if self.url is not None:
            with _reporting(self.url):
                files = _filesystem(self.url)
                for old in files.glob(f"{self.url}/{prefix}*"):
                    files.rm(old, recursive=True)

    def require_reachable(self) -> None:
        """Refuse a URL that cannot be written to, before any work is done.

        Raises
        ------
        StorageError : it cannot.
        """
        if self.url is not None:
            probe = f"{self.url}/.probe"
            with _reporting(probe):
                _filesystem(self.url).pipe_file(probe, b"mipp")
                _filesystem(self.url).rm_file(probe)


def cache_folder() -> Path:
    """What is kept between runs and may be deleted whenever nothing runs: $MIPP_CACHE."""
    return Path(os.environ.get("MIPP_CACHE", Path.home() / ".cache/mipp"))


def _mirror(url: str) -> Path:
    return cache_folder() / hashlib.sha256(url.encode()).hexdigest()[:16]


def _origin(folder: Path) -> str | None:
    """The address that a mirror mirrors; a folder is none by what lies in it alone."""
    text = _local(folder / ORIGIN)
    if text is None:
        return None
    url = json_object(text).get("url")
    if not isinstance(url, str) or folder.resolve() != _mirror(url).resolve():
        raise StorageError(
            f"{folder / ORIGIN} names an address that this folder is no mirror of.\nExpected the "
            f"one of which {folder} is the mirror in {cache_folder()}, got {url!r}; give the "
            f"address itself to --workdir, or delete {folder / ORIGIN}."
        )
    return url


def _local(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _read(url: str) -> bytes | None:
    with _reporting(url):
        try:
            content: bytes = _filesystem(url).cat_file(url)
        except FileNotFoundError:
            return None
        return content


def _download(url: str, folder: Path, outputs: Mapping[str, str]) -> None:
    """Files of a stage folder, each compared with its digest; what has none may be missing."""
    files = _filesystem(url)
    wanted: dict[str, str | None] = {**outputs, "outputs.json": None, "timing.json": None}
    for name, digest in wanted.items():
        here = folder / name
        here.parent.mkdir(parents=True, exist_ok=True)
        with _reporting(f"{url}/{name}"), contextlib.suppress(FileNotFoundError):
            files.get_file(f"{url}/{name}", str(here))
        got = file_digest(here) if here.is_file() else "no file"
        if digest is not None and digest != got:
            raise StorageError(
                f"stage folder {url} cannot be used: {name} is not what its manifest says."
                f"\nExpected sha256 {digest[:12]}, got {got[:12]}; another run is writing there, "
                f"or the file was changed. Wait for that run, or delete {url} and run the stage "
                "again."
            )


def _filesystem(url: str) -> Any:
    protocol = url.partition("://")[0]
    try:
        return fsspec.core.url_to_fs(url, use_listings_cache=False)[0]
    except (ImportError, ValueError) as error:
        extra = EXTRAS.get(protocol)
        mend = (
            f"run `pip install 'mipp-pruning[{extra}]'`"
            if extra
            else f"use file://, {', '.join(f'{name}://' for name in EXTRAS)}, or install the "
            "package that serves it"
        )
        raise StorageError(
            f"work directory {url} cannot be opened: {error}.\nExpected a protocol that fsspec "
            f"knows and whose package is installed, got {protocol!r}; {mend}."
        ) from error


@contextmanager
def _reporting(url: str) -> Iterator[None]:
    """Say which address failed, and what to look at."""
    try:
        yield
    except Exception as error:
        raise StorageError(
            f"{url} cannot be reached: {error}.\nExpected an address that can be read and "
            f"written, got {type(error).__name__}; check the bucket's name, your credentials and "
            "permissions, and for a server of your own AWS_ENDPOINT_URL."
        ) from error
