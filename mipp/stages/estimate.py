"""Stage `estimate`: what each layer pair's estimator prepares, one file per pair."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from mipp.activations import open_store
from mipp.activations.store import ActivationStore
from mipp.config import WRITTEN, Params
from mipp.device import divided_threads, resolve_device
from mipp.disk.storage import Workdir
from mipp.disk.workdir import TIMING
from mipp.errors import as_written
from mipp.information import moments
from mipp.information.estimators import PairData, estimator_of
from mipp.information.gaussian import PairState, keeping
from mipp.information.moments import Moments
from mipp.information.protocols import Information, PairInformation, SampledInformation
from mipp.progress import track
from mipp.stages.context import Context
from mipp.stages.files import (
    MOMENTS,
    STORE,
    damaged,
    given_up_if_damaged,
    load_tensors,
    model_fingerprint,
)
from mipp.stages.parts import Parts
from mipp.stages.values import estimator_settings

STATE, SECONDS = ".safetensors", ".seconds"  # of a pair


def pairs_to_estimate(workdir: Workdir) -> list[str]:
    """Names of the pairs in the activation store."""
    return list(_store(workdir).pairs)


def _store(workdir: Workdir) -> ActivationStore:
    return open_store(workdir.location(STORE), model_fingerprint(workdir.folder))


@as_written(WRITTEN)
def estimate_pair(workdir: Workdir, params: Params, key: str, pair: str) -> None:
    """Prepare one pair and leave its state in the parts folder; done before, it does nothing.

    A pure function of the store, the parameters and the pair, so that pairs can be estimated
    anywhere and in any order; the file appears complete.

    Parameters
    ----------
    key : of the stage that the pair is a part of.
    """
    for stage in ("train", "extract"):
        workdir.stage(stage)
    parts, name = Parts(workdir, "estimate", key), f"{pair}{STATE}"
    if parts.find(name):
        return
    parts.note_attempt(name)
    started = time.perf_counter()
    device = resolve_device(params.compute.device)
    data = pair_data(_store(workdir), pair, device, workdir.folder / MOMENTS)
    settings = estimator_settings(params)
    with given_up_if_damaged(workdir):
        state = estimator_of(settings)[1].prepare(data, settings, params.seed)
    with parts.making(f"{pair}{SECONDS}") as file:
        file.write_text(str(time.perf_counter() - started))
    with parts.making(name) as file:
        save_file({n: t.cpu().contiguous() for n, t in state.tensors().items()}, file)


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
        return moments.from_tensors({k: v.to(device) for k, v in load_tensors(file).items()})

    known = sums if file is not None and file.exists() else None
    return PairData(pair, *store.shape(pair), chunks, known)


def gather_estimates(context: Context) -> None:
    """Estimate the pairs that no worker has, and move all states into the stage folder."""
    params, workdir = context.params, context.workdir
    pairs = pairs_to_estimate(workdir)
    parts = Parts(workdir, "estimate", context.key)
    done = [file for pair in pairs if (file := parts.find(f"{pair}{SECONDS}"))]
    elsewhere = sum(_seconds(file) for file in done)
    compute = params.compute
    workers = compute.workers if compute.runner == "threads" else 1
    sharing = 1 if compute.runner == "serial" else compute.workers  # as on a cluster's workers
    with divided_threads(sharing), ThreadPoolExecutor(workers) as pool:
        states = pool.map(lambda pair: estimate_pair(workdir, params, context.key, pair), pairs)
        for _ in track(states, total=len(pairs), label="estimate"):
            pass
    for pair in pairs:
        state = parts.find(f"{pair}{STATE}")
        assert state is not None
        load_tensors(state)  # a damaged one is told of before it counts as whole
        shutil.copyfile(state, context.out / state.name)
    (context.out / TIMING).write_text(json.dumps({"seconds": elsewhere}))
    parts.forget()


def _seconds(file: Path) -> float:
    try:
        return float(file.read_text())
    except ValueError as error:
        raise damaged(file, str(error)) from error


def load_information(workdir: Workdir, params: Params, tested: bool) -> Information:
    """Answers for every pair: its prepared state, and its rows where a test needs them."""
    settings = estimator_settings(params)
    _, estimator = estimator_of(settings)
    answers = estimator.samples if tested else estimator.answers
    device = resolve_device(params.compute.device)
    store = _store(workdir)
    files = {pair: workdir.folder / "estimate" / f"{pair}.safetensors" for pair in store.pairs}
    keep = keeping(sum(file.stat().st_size for file in files.values() if file.exists()), device)
    found: dict[str, PairInformation | SampledInformation] = {}
    for pair, file in files.items():
        tensors = load_tensors(file)
        state = estimator.restore({name: tensor.to(device) for name, tensor in tensors.items()})
        data = pair_data(store, pair, device)
        answer = answers(state, data, settings, params.seed)
        found[pair] = keep(answer) if isinstance(answer, PairState) else answer
    return found
