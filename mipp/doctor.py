"""What of this machine and installation a run will need, and has; `mipp doctor` prints it."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from mipp.activations import Sampling
from mipp.config import Params
from mipp.device import free_bytes, resolve_device
from mipp.disk.faults import free_space
from mipp.disk.storage import Workdir
from mipp.errors import MippError
from mipp.graph import build_graph
from mipp.models import build_model
from mipp.needed_stages import is_needed
from mipp.pruning.needs import sizes_of, stored_bytes
from mipp.stages.splits import load_splits, model_spec

DISTRIBUTION = "mipp-pruning"
PROBE = 2**26  # bytes that are written to time a folder
SPARE = 2 * 2**30  # bytes beside the store: networks, reports, what a run leaves
GB = 1e9


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    `bad` would stop the run; a `note` is worth knowing.
    """

    what: str
    state: Literal["good", "note", "bad"]
    says: str


def examine(params: Params, workdir: str) -> list[Finding]:
    """All findings; where one cannot be made, what hindered it is the finding.

    Parameters
    ----------
    workdir : as `--workdir` says it, a folder or a URL.
    """
    return [
        *_packages(),
        _tried("device", lambda: _device(params)),
        *_data_and_disk(params, workdir),
    ]


def _packages() -> Iterator[Finding]:
    """Python, and each package that is needed, in a version that fits."""
    if _installed(DISTRIBUTION) is None:
        yield Finding("packages", "note", f"not looked at: {DISTRIBUTION} is not installed here")
        return
    yield _python()
    wanted = [Requirement(line) for line in metadata.requires(DISTRIBUTION) or ()]
    wrong = [says for one in wanted if (says := _misfit(one))]
    for says in wrong:
        yield Finding("package", "bad", says)
    if not wrong:
        count = sum(1 for one in wanted if one.marker is None or one.marker.evaluate())
        yield Finding("packages", "good", f"all {count} in versions that fit")
    extras = metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    lacking = [extra for extra in extras if extra != "dev" and _lacks(wanted, extra)]
    if lacking:
        mend = f"pip install '{DISTRIBUTION}[{lacking[0]}]'"
        yield Finding("extras", "note", f"without {', '.join(lacking)}; `{mend}` adds one")


def _python() -> Finding:
    """The interpreter, and whether it is one that is supported."""
    found, bounds = platform.python_version(), metadata.metadata(DISTRIBUTION)["Requires-Python"]
    if SpecifierSet(bounds).contains(found, prereleases=True):
        return Finding("python", "good", f"{found}, {sys.executable}")
    return Finding("python", "bad", f"{found}, {sys.executable}. Expected {bounds}")


def _lacks(wanted: Iterable[Requirement], extra: str) -> bool:
    """Whether a package of an extra is not there."""
    of = [one for one in wanted if one.marker and one.marker.evaluate({"extra": extra})]
    return any(_installed(one.name) is None for one in of)


def _misfit(one: Requirement) -> str | None:
    """What is wrong with the installed version of a package; of an extra only where it is there."""
    needed = one.marker is None or one.marker.evaluate()
    found = _installed(one.name)
    if found is None:
        return f"{one} is not installed; run `pip install '{one}'`" if needed else None
    if one.specifier.contains(found, prereleases=True):
        return None
    return f"{one.name} {found} does not fit {one.specifier}; run `pip install '{one}'`"


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _device(params: Params) -> Finding:
    device = resolve_device(params.compute.device)
    free = free_bytes(device)
    memory = "unknown" if free is None else f"{free / GB:.1f} GB"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        return Finding("device", "good", f"{device}, {name}, {memory} of memory free")
    threads = f"{torch.get_num_threads()} threads on {os.cpu_count()} cores"
    return Finding("device", "good", f"cpu, {threads}, {memory} of memory free")


def _data_and_disk(params: Params, workdir: str) -> Iterator[Finding]:
    """The set and the network, then the folder beside what they will write there."""
    need: list[int] = []

    def data() -> Finding:
        splits = load_splits(params)
        model = build_model(model_spec(params, splits), seed=params.seed)
        graph = build_graph(model, torch.zeros(1, *splits.shape, device="cpu"))
        sampling = Sampling(params.extract.rows, params.data.calibration, params.seed)
        if is_needed("extract", params.choose.method):
            need.append(stored_bytes(sizes_of(model, graph, sampling)))
        says = (
            f"{splits.name}: {len(splits.train):,} images to train on, {len(splits.test):,} to "
            f"test, {splits.classes} classes, {' x '.join(map(str, splits.shape))}; "
            f"{params.model.name} takes them"
        )
        return Finding("data", "good", says)

    yield _tried("data", data)
    yield _tried("work directory", lambda: _disk(Workdir.open(workdir), sum(need)))


def _disk(workdir: Workdir, need: int) -> Finding:
    """The folder, of a URL that of its mirror."""
    workdir.require_reachable()
    place = workdir.folder.resolve()
    while not place.is_dir():  # it need not be there yet
        place = place.parent
    content = os.urandom(PROBE)
    with tempfile.TemporaryFile(dir=place) as file:
        started = time.perf_counter()
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        speed = PROBE / (time.perf_counter() - started)
    free, wanted = free_space(place), need + SPARE
    where = f"{workdir}, mirrored in {workdir.folder}" if workdir.url else str(workdir)
    says = f"{where}: {free / GB:.1f} GB free, {speed / GB:.2f} GB a second written"
    if need:
        says += f"; activations take {need / GB:.2f} GB, {need / speed:.0f} s of writing"
    if free < wanted:
        says += f". Expected {wanted / GB:.1f} GB free; lower extract.rows, or give another folder"
    return Finding("work directory", "bad" if free < wanted else "good", says)


def _tried(what: str, look: Callable[[], Finding]) -> Finding:
    """The finding, or why there is none."""
    try:
        return look()
    except (MippError, OSError) as error:
        return Finding(what, "bad", " ".join(str(error).split()))
