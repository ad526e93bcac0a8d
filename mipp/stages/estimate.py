"""Stage `estimate`: what each layer pair's estimator prepares, one file per pair."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mipp.activations import open_store
from mipp.activations.store import ActivationStore
from mipp.config import WRITTEN, Params
from mipp.device import divided_threads, resolve_device
from mipp.errors import as_written
from mipp.information import moments
from mipp.information.estimators import PairData, estimator_of
from mipp.information.moments import Moments
from mipp.information.protocols import Information, PairInformation, SampledInformation
from mipp.progress import track
from mipp.stages.context import Context
from mipp.stages.files import MOMENTS, STORE, model_fingerprint
from mipp.stages.parts import folder_of_parts, forget_parts, note_attempt
from mipp.stages.values import estimator_settings
from mipp.storage import fetch_file, fetch_stage, keep_file, location_of
from mipp.whole_files import written_whole
from mipp.workdir import TIMING

SECONDS = ".seconds"


def pairs_to_estimate(workdir: Path) -> list[str]:
    """Names of the pairs in the activation store."""
    return list(_store(workdir).pairs)


def _store(workdir: Path) -> ActivationStore:
    return open_store(location_of(workdir, STORE), model_fingerprint(workdir))


@as_written(WRITTEN)
def estimate_pair(workdir: Path, params: Params, key: str, pair: str) -> None:
    """Prepare one pair and leave its state in the parts folder; done before, it does nothing.

    A pure function of the store, the parameters and the pair, so that pairs can be estimated
    anywhere and in any order; the file appears complete.

    Parameters
    ----------
    key : of the stage that the pair is a part of.
    """
    for stage in ("train", "extract"):
        fetch_stage(workdir, stage)
    part = folder_of_parts(workdir, "estimate", key) / f"{pair}.safetensors"
    if fetch_file(workdir, part.relative_to(workdir)):
        return
    part.parent.mkdir(parents=True, exist_ok=True)
    note_attempt(part)
    started = time.perf_counter()
    device = resolve_device(params.compute.device)
    data = pair_data(_store(workdir), pair, device, workdir / MOMENTS)
    settings = estimator_settings(params)
    state = estimator_of(settings)[1].prepare(data, settings, params.seed)
    seconds = part.with_suffix(SECONDS)
    with written_whole(part) as partial:
        save_file({n: t.cpu().contiguous() for n, t in state.tensors().items()}, partial)
        seconds.write_text(str(time.perf_counter() - started))
    for kept in (seconds, part):
        keep_file(workdir, kept.relative_to(workdir))


def pair_data(
    store: ActivationStore, pair: str, device: torch.device, added_up: Path | None = None
) -> PairData:
    """Rows of one pair of a store, and its moments where a folder has them; read on demand."""
    file = added_up / f"{pair}.safetensors" if added_up else None

    def chunks() -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in store.rows(pair):
            yield torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)

    def sums() -> Moments:
        assert file is not None
        return moments.from_tensors({k: v.to(device) for k, v in load_file(file).items()})

    known = sums if file is not None and file.exists() else None
    return PairData(pair, *store.shape(pair), chunks, known)


def gather_estimates(context: Context) -> None:
    """Estimate the pairs that no worker has, and move all states into the stage folder."""
    params, workdir = context.params, context.workdir
    pairs = pairs_to_estimate(workdir)
    folder = folder_of_parts(workdir, "estimate", context.key)
    for name in (f"{pair}{SECONDS}" for pair in pairs):
        fetch_file(workdir, (folder / name).relative_to(workdir))
    elsewhere = sum(float(file.read_text()) for file in folder.glob(f"*{SECONDS}"))
    compute = params.compute
    workers = compute.workers if compute.runner == "threads" else 1
    sharing = 1 if compute.runner == "serial" else compute.workers  # as on a cluster's workers
    with divided_threads(sharing), ThreadPoolExecutor(workers) as pool:
        done = pool.map(lambda pair: estimate_pair(workdir, params, context.key, pair), pairs)
        for _ in track(done, total=len(pairs), label="estimate"):
            pass
    for pair in pairs:
        shutil.copyfile(folder / f"{pair}.safetensors", context.out / f"{pair}.safetensors")
    (context.out / TIMING).write_text(json.dumps({"seconds": elsewhere}))
    forget_parts(workdir, "estimate")


def load_information(workdir: Path, params: Params, tested: bool) -> Information:
    """Answers for every pair: its prepared state, and its rows where a test needs them."""
    settings = estimator_settings(params)
    _, estimator = estimator_of(settings)
    answers = estimator.samples if tested else estimator.answers
    device = resolve_device(params.compute.device)
    store = _store(workdir)
    found: dict[str, PairInformation | SampledInformation] = {}
    for pair in store.pairs:
        tensors = load_file(workdir / "estimate" / f"{pair}.safetensors")
        state = estimator.restore({name: tensor.to(device) for name, tensor in tensors.items()})
        data = pair_data(store, pair, device)
        found[pair] = answers(state, data, settings, params.seed)
    return found
