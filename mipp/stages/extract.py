"""Stage `extract`: activation rows of every layer pair, in a Zarr store."""

from __future__ import annotations

from mipp.activations import Sampling, capture_rows, write_store
from mipp.device import resolve_device
from mipp.progress import track
from mipp.stages.inputs import (
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
    """One forward pass over the calibration split; rows stream to the store."""
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
    write_store(
        context.out / STORE.name,
        capture_rows(checkpoint.model, pairs, batches, sampling),
        store_fingerprint(context.workdir, splits, params.extract.rows),
    )
