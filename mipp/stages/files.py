"""Where stages find each other's files, and small values in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mipp.selection.selection import Selection
from mipp.workdir import read_manifest

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


def model_fingerprint(workdir: Path) -> dict[str, str]:
    """The part of a store's fingerprint that names the dense network."""
    trained = read_manifest(workdir / "train")
    return {"model": trained.digest() if trained else ""}
