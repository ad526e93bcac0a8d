"""Where stages find each other's files, and small values in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mipp.errors import DamagedStoreError
from mipp.selection.selection import Selection
from mipp.storage import Workdir
from mipp.workdir import MANIFEST, read_manifest

STORE = Path("extract/activations.zarr")
MOMENTS = Path("extract/moments")  # of pairs whose moments take less room than their rows


def load_selection(workdir: Path) -> Selection:
    """What `choose` decided."""
    return Selection.from_json((workdir / "choose/selection.json").read_text())


def write_json(path: Path, value: Any) -> None:
    """Write a value so that equal values give equal bytes."""
    path.write_text(json.dumps(value, indent=1, sort_keys=True))


def read_json(path: Path) -> Any:
    """The value that `write_json` wrote."""
    return json.loads(path.read_text())


@contextmanager
def given_up_if_damaged(workdir: Workdir) -> Iterator[None]:
    """A store that turns out to be damaged is not up to date any more: `extract` writes it anew."""
    try:
        yield
    except DamagedStoreError:
        workdir.remove_file(f"extract/{MANIFEST}")
        raise


def model_fingerprint(workdir: Path) -> dict[str, str]:
    """The part of a store's fingerprint that names the dense network."""
    trained = read_manifest(workdir / "train")
    return {"model": trained.digest() if trained else ""}
