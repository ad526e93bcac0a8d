"""Where stages find each other's files, and small values in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mipp.disk.storage import Workdir
from mipp.disk.workdir import MANIFEST, read_manifest
from mipp.errors import DamagedStoreError, WorkdirError
from mipp.selection.selection import Selection

STORE = Path("extract/activations.zarr")
MOMENTS = Path("extract/moments")  # of pairs whose moments take less room than their rows


def load_selection(workdir: Path) -> Selection:
    """What `choose` decided."""
    return Selection.from_json((workdir / "choose/selection.json").read_text())


def final_selection(workdir: Path) -> Selection:
    """What stayed in the end: the same, but for a network that was pruned in rounds."""
    last = workdir / "finetune/selection.json"
    return Selection.from_json(last.read_text()) if last.exists() else load_selection(workdir)


def write_json(path: Path, value: Any) -> None:
    """Write a value so that equal values give equal bytes."""
    path.write_text(json.dumps(value, indent=1, sort_keys=True))


def read_json(path: Path) -> Any:
    """The value that `write_json` wrote."""
    return json.loads(path.read_text())


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors that a stage, or a part of one, wrote.

    Raises
    ------
    WorkdirError : the file is damaged.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise damaged(path, str(error)) from error


def damaged(path: Path, got: str) -> WorkdirError:
    """What to say of a file in a work directory that no stage wrote so."""
    return WorkdirError(
        f"file {path} is damaged.\nExpected it as a stage wrote it, got: {got}; delete "
        f"{path.parent} and run the same command again."
    )


@contextmanager
def given_up_if_damaged(workdir: Workdir) -> Iterator[None]:
    """A store that turns out to be damaged is not up to date any more: `extract` writes it anew.

    Of a store of another work directory, which is never written to, only the link goes.
    """
    try:
        yield
    except DamagedStoreError:
        stage = STORE.parent
        link = workdir.folder / stage
        if link.is_symlink():
            link.unlink(missing_ok=True)
        else:
            workdir.remove_file(f"{stage}/{MANIFEST}")
        raise


def model_fingerprint(workdir: Path) -> dict[str, str]:
    """The part of a store's fingerprint that names the dense network."""
    trained = read_manifest(workdir / "train")
    return {"model": trained.digest() if trained else ""}
