"""Stage `extract`: activation rows of every layer pair, in a Zarr store, and their moments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from safetensors.torch import save_file

from mipp.activations import Sampling, capture_rows, write_store
from mipp.activations.capture import Rows
from mipp.device import resolve_device
from mipp.information.moments import MomentSums
from mipp.progress import track
from mipp.stages.inputs import (
    MOMENTS,
    STORE,
    images_of,
    load_dense,
    load_splits,
    pixel_pairs_of,
    store_fingerprint,
    trace,
)
from mipp.stages.stage import Context


def extract_activations(context: Context) -> None:
    """One forward pass over the calibration split; rows stream to the store.

    Moments are added up on the device while the rows are at hand, where they take less room than
    the rows do; `estimate` then need not read these again.
    """
    params = context.params
    device = resolve_device(params.compute.device)
    splits = load_splits(params)
    checkpoint = load_dense(context.workdir, device)
    graph = trace(checkpoint, device)
    pairs = graph.pairs
    if params.extract.inputs == "pixels":
        pairs = (*pairs, *pixel_pairs_of(checkpoint, graph, device))
    split = splits.calibration
    batch = params.extract.batch_size
    batches = track(images_of(split, batch, device), total=-(-len(split) // batch), label="extract")
    sampling = Sampling(params.extract.rows, len(split), params.seed)
    rows = capture_rows(checkpoint.model, pairs, batches, sampling, params.extract.targets)
    counts = {pair.name: len(split) * sampling.per_image(pair.positions) for pair in pairs}
    sums: dict[str, MomentSums] = {}
    write_store(
        context.out / STORE.name,
        add_up(rows, counts, sums),
        store_fingerprint(context.workdir, splits, params.extract),
    )
    folder = context.out / MOMENTS.name
    folder.mkdir()
    for name, found in sums.items():
        tensors = {key: value.cpu() for key, value in found.moments().tensors().items()}
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
    for batch in rows:
        for name, (x, y) in batch.items():
            if x[0].numel() <= counts[name]:
                sums.setdefault(name, MomentSums("rows")).add(x, y)
        yield batch
