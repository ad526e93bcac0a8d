"""Shards of stage `extract`: runs of whole batches, whose rows wait until all are there.

A shard's folder holds a file per batch. Read in the order of the batches, the rows of any number
of shards are those of one pass over all images, bit for bit, so that the store and the sums made
of them are too; sums that shards add up by themselves and merge would differ in their last digits.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mipp.activations.capture import Rows
from mipp.config import WRITTEN, ExtractConfig, Params
from mipp.data import DataSplits
from mipp.disk.manifest import json_object
from mipp.disk.storage import Workdir
from mipp.errors import ConfigError, as_written
from mipp.progress import track
from mipp.stages.files import damaged
from mipp.stages.parts import Parts
from mipp.stages.rows import Calibration, calibration_rows, count_batches, load_calibration
from mipp.stages.splits import at_once

ROWS = ".safetensors"  # of a batch
DONE = "done.json"  # the last file of a shard to be written
_ALONE = threading.RLock()  # for what changes torch as other threads of the process see it


def require_shards(config: ExtractConfig, splits: DataSplits) -> None:
    """Refuse shards that would have no batch.

    Raises
    ------
    ConfigError : there are more shards than batches.
    """
    batches, images = count_batches(config, splits), len(splits.calibration)
    if config.shards > batches:
        size = at_once(config.batch_size, splits.shape)
        raise ConfigError(
            f"extract.shards={config.shards} leaves some of them without a batch.\nExpected at "
            f"most {batches}, as many as batches of {size} (extract.batch_size="
            f"{config.batch_size}) are made of {images} calibration images, got {config.shards}; "
            f"set extract.shards={batches}, or a smaller extract.batch_size."
        )


def batches_of(batches: int, shards: int, shard: int) -> range:
    """Numbers of the batches that a shard runs; shards differ by one batch at most.

    >>> [list(batches_of(5, 2, shard)) for shard in range(2)]
    [[0, 1], [2, 3, 4]]
    """
    return range(shard * batches // shards, (shard + 1) * batches // shards)


@as_written(WRITTEN)
def extract_shard(
    workdir: Workdir, params: Params, key: str, shard: int, found: Calibration | None = None
) -> None:
    """Run one shard's batches and leave their rows; done before, it does nothing.

    A pure function of the dense network, the images, the parameters and the shard, so that
    shards can be extracted anywhere and in any order.

    Parameters
    ----------
    key : of the stage that the shard is a part of.
    found : what `load_calibration` gave, for who runs several; loading takes seconds.
    """
    workdir.stage("train")
    parts, name = Parts(workdir, "extract", key), _name(params.extract, shard)
    if parts.find(f"{name}/{DONE}"):
        return
    parts.note_attempt(name)
    started = time.perf_counter()
    if found is None:
        with _ALONE:  # first weights are drawn from torch's one generator
            found = load_calibration(workdir.folder, params)
    batches = batches_of(found.batches, params.extract.shards, shard)
    for number, rows in zip(batches, calibration_rows(found, batches), strict=True):
        with parts.making(f"{name}/{number}{ROWS}") as file:
            _write(file, rows)
    with parts.making(f"{name}/{DONE}") as file:
        seconds = time.perf_counter() - started
        file.write_text(json.dumps({"batches": len(batches), "seconds": seconds}))


def seconds_of_shards(workdir: Workdir, params: Params, key: str) -> float:
    """Seconds that the shards took which are done already, wherever that was."""
    parts, shards = Parts(workdir, "extract", key), range(params.extract.shards)
    found = [parts.find(f"{_name(params.extract, shard)}/{DONE}") for shard in shards]
    return sum(_seconds(done) for done in found if done)


def _seconds(done: Path) -> float:
    seconds = json_object(done.read_bytes()).get("seconds")
    if not isinstance(seconds, (int, float)):
        raise damaged(done, f"seconds {seconds!r}")
    return float(seconds)


def rows_of_shards(
    workdir: Workdir, params: Params, key: str, found: Calibration
) -> Iterator[Rows]:
    """Rows of all shards, batch by batch in order, on the device; they have to be done."""
    parts = Parts(workdir, "extract", key)
    names = [
        f"{_name(params.extract, shard)}/{number}{ROWS}"
        for shard in range(params.extract.shards)
        for number in batches_of(found.batches, params.extract.shards, shard)
    ]
    for name in track(names, total=len(names), label="merge"):
        file = parts.find(name)
        assert file is not None, name
        yield _read(file, found.device)


def _name(config: ExtractConfig, shard: int) -> str:
    return f"{shard}-of-{config.shards}"


def _write(file: Path, rows: Rows) -> None:
    """A batch's file; the order of the pairs is in its header."""
    tensors = {
        f"{pair}/{side}": np.ascontiguousarray(values.cpu().numpy())
        for pair, sides in rows.items()
        for side, values in zip("xy", sides, strict=True)
    }
    save_file(tensors, file, metadata={"pairs": json.dumps(list(rows))})


def _read(file: Path, device: torch.device) -> Rows:
    try:
        with safe_open(file, framework="pt") as opened:
            pairs = json.loads(opened.metadata()["pairs"])
            # copies: products are rounded alike only where memory is aligned as torch aligns it
            x, y = (
                [opened.get_tensor(f"{pair}/{side}").to(device, copy=True) for pair in pairs]
                for side in "xy"
            )
    except (SafetensorError, OSError, ValueError, LookupError, TypeError) as error:
        raise damaged(file, str(error)) from error
    return dict(zip(pairs, zip(x, y, strict=True), strict=True))
