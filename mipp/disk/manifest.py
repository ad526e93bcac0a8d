"""The manifest of a stage folder: what its outputs were made from, and what they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mipp.disk.inside import require_inside
from mipp.errors import WorkdirError


@dataclass(frozen=True)
class MadeFrom:
    """All that the outputs of a stage depend on."""

    stage: str
    params: Mapping[str, Any]
    inputs: Mapping[str, str]  # earlier stage -> digest of its outputs
    code: str  # SHA-256 of the sources that it imports, see `mipp.sources`
    versions: Mapping[str, str]

    def key(self) -> str:
        """Fingerprint of it all."""
        return fingerprint(asdict(self))


@dataclass(frozen=True)
class Manifest(MadeFrom):
    """What a stage folder was made from and what it holds."""

    outputs: Mapping[str, str]  # file -> sha256

    def digest(self) -> str:
        """Fingerprint of the outputs alone: equal files give equal digests."""
        return fingerprint(self.outputs)

    def key(self) -> str:
        """Fingerprint of what the outputs were made from, without them."""
        return MadeFrom(self.stage, self.params, self.inputs, self.code, self.versions).key()


def fingerprint(value: Any) -> str:
    """SHA-256 of a JSON-able value, hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal; it need not fit into memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parse_manifest(text: bytes, where: object) -> Manifest | None:
    """The manifest that a file holds; None where it holds something else, as if there were none.

    Parameters
    ----------
    where : the file or address that it is from, for the error.

    Raises
    ------
    WorkdirError : it names outputs outside of its folder.
    """
    values = json_object(text)
    if values.keys() != {field.name for field in fields(Manifest)}:
        return None
    words = [values["stage"], values["code"]]
    tables = [values["inputs"], values["versions"], values["outputs"]]
    if not isinstance(values["params"], dict) or not all(isinstance(t, dict) for t in tables):
        return None
    words += [value for table in tables for value in table.values()]
    if not all(isinstance(word, str) for word in words):
        return None
    for name in values["outputs"]:
        require_inside(name, where, WorkdirError)
    return Manifest(**values)


def json_object(text: bytes) -> dict[str, Any]:
    """The JSON object in a text; empty where it is cut off, something else or nested too deep.

    Example
    -------
    >>> json_object(b'{"url": 1}'), json_object(b"[1]"), json_object(b'{"ur')
    ({'url': 1}, {}, {})
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
