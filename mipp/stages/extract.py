"""Stage `extract`: activation rows of every layer pair, in a Zarr store, and their moments."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from safetensors.torch import save_file

from mipp.activations import write_store
from mipp.activations.capture import Rows
from mipp.config import ExtractConfig, Params
from mipp.data import DataSplits
from mipp.disk.workdir import TIMING
from mipp.information.moments import MomentSums, Scratch
from mipp.process.ranks import Ranks
from mipp.stages.context import Context
from mipp.stages.files import MOMENTS, STORE, model_fingerprint
from mipp.stages.parts import Parts
from mipp.stages.rows import Calibration, calibration_rows, load_calibration
from mipp.stages.shards import extract_shard, rows_of_shards, seconds_of_shards


def extract_activations(context: Context) -> None:
    """One forward pass over the calibration split; rows stream to the store.

    Moments are added up on the device while the rows are at hand, where they take less room than
    the rows do; `estimate` then need not read these again. Shards that no worker has extracted
    are extracted here, by several processes a shard each, and the rows of all come to the store
    and the sums in the order of one pass.
    """
    workdir, key, ranks = context.workdir, context.key, Ranks.here()
    found = load_calibration(workdir.folder, context.params)
    ranks.require_agreement({"the calibration images": found.splits.calibration.fingerprint})
    params = _divided(context.params, min(ranks.size, found.batches))
    if params.extract.shards > 1:
        seconds = seconds_of_shards(workdir, params, key)
        for shard in range(ranks.rank, params.extract.shards, ranks.size):
            extract_shard(workdir, params, key, shard, found)
        ranks.wait()
        if ranks.rank:
            return
        rows = rows_of_shards(workdir, params, key, found)
        (context.out / TIMING).write_text(json.dumps({"seconds": seconds}))
    else:
        rows = calibration_rows(found, range(found.batches))
    _write(context, found, rows)
    Parts(workdir, "extract", key).forget()


def _divided(params: Params, processes: int) -> Params:
    """One shard for each process, where no number of shards is asked for."""
    shards = max(params.extract.shards, processes)
    if shards == params.extract.shards:
        return params
    return params.model_copy(
        update={"extract": params.extract.model_copy(update={"shards": shards})}
    )


def _write(context: Context, found: Calibration, rows: Iterable[Rows]) -> None:
    """The store of these rows and the moments of its pairs."""
    sums: dict[str, MomentSums] = {}
    write_store(
        context.out / STORE.name,
        add_up(rows, found.counts(), sums),
        _store_fingerprint(context.workdir.folder, found.splits, found.config),
    )
    folder = context.out / MOMENTS.name
    folder.mkdir()
    for name, total in sums.items():
        tensors = {key: value.cpu() for key, value in total.moments().tensors().items()}
        save_file(tensors, folder / f"{name}.safetensors")


def add_up(
    rows: Iterable[Rows], counts: Mapping[str, int], sums: dict[str, MomentSums]
) -> Iterator[Rows]:
    """The same rows, after they were added to the sums of their pairs.

    Parameters
    ----------
    counts : rows that each pair will have.
    sums : filled for pairs whose sums, half of (d, d) in float64, take no more room than their
        rows, (n, d) in float32.
    """
    scratch = Scratch()
    for batch in rows:
        for name, (x, y) in batch.items():
            if x[0].numel() <= counts[name]:
                sums.setdefault(name, MomentSums("rows", scratch)).add(x, y)
        yield batch


def _store_fingerprint(workdir: Path, splits: DataSplits, config: ExtractConfig) -> dict[str, str]:
    """What an activation store depends on, by part."""
    return {
        **model_fingerprint(workdir),
        "calibration split": splits.calibration.fingerprint,
        "sampling": f"{config.rows} rows",
    }
