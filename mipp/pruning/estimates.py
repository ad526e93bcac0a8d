"""Information of every layer pair from one pass over the data, with nothing written to a disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain

from torch import Tensor, nn

from mipp.activations import Sampling, stream_rows
from mipp.activations.capture import OnRows
from mipp.device import device_of
from mipp.errors import ActivationError
from mipp.graph import ChannelGraph
from mipp.information import gaussian
from mipp.information.estimators import PairData, estimator_of
from mipp.information.moments import Moments, MomentSums, Scratch
from mipp.information.protocols import Information, PairInformation, SampledInformation
from mipp.inputs import Inputs, count
from mipp.process.allocator import FreedMemory
from mipp.progress import track
from mipp.pruning.calibration import Calibration
from mipp.pruning.needs import sizes_of, states_bytes
from mipp.settings import Gaussian, Mipp


class Estimates:
    """Answers for every pair, prepared when they are first asked for, and then kept.

    Parameters
    ----------
    prepare : given whether a test of significance will ask.
    """

    def __init__(self, prepare: Callable[[bool], Information]) -> None:
        self._prepare = prepare
        self._prepared: dict[bool, Information] = {}

    def has(self, tested: bool) -> bool:
        """Whether they are prepared."""
        return tested in self._prepared

    def answers(self, tested: bool) -> Information:
        """For thresholds, or for a test of significance."""
        if tested not in self._prepared:
            self._prepared[tested] = self._prepare(tested)
        return self._prepared[tested]


def measure_information(
    model: nn.Module,
    graph: ChannelGraph,
    calibration: Calibration,
    method: Mipp,
    seed: int,
    *,
    tested: bool,
) -> Information:
    """Answers for every pair.

    The closed form adds moments up as the network runs; another estimator, or a test of
    significance, holds all sampled rows.

    Parameters
    ----------
    method : its estimator and rows are used.
    seed : of the rows, as for `capture_rows`, and of the estimator.
    tested : whether a test of significance will ask.
    """
    sampling = Sampling(method.rows, calibration.count(), seed)
    stream = partial(stream_rows, model, graph.pairs, _tracked(calibration), sampling)
    if type(method.estimator) is Gaussian and not tested:
        size = states_bytes(sizes_of(model, graph, sampling))
        keep = gaussian.keeping(size, device_of(model))
        return _from_moments(graph, stream, sampling, method.estimator, keep)
    chunks: dict[str, list[tuple[Tensor, Tensor]]] = {pair.name: [] for pair in graph.pairs}
    for _ in stream(lambda name, x, y: chunks[name].append((x, y))):
        pass
    _, estimator = estimator_of(method.estimator)
    answers = estimator.samples if tested else estimator.answers
    found: dict[str, PairInformation | SampledInformation] = {}
    for pair in track(graph.pairs, total=len(graph.pairs), label="estimate"):
        data = _pair_data(pair.name, chunks[pair.name])
        state = estimator.prepare(data, method.estimator, seed)
        found[pair.name] = answers(state, data, method.estimator, seed)
    return found


def _tracked(calibration: Calibration) -> Iterator[Inputs]:
    batches = iter(calibration.inputs())
    first = next(batches)
    total = -(-calibration.count() // max(count(first), 1))
    yield from track(chain([first], batches), total=total, label="extract")


def _pair_data(name: str, chunks: list[tuple[Tensor, Tensor]]) -> PairData:
    _, channels, block = chunks[0][0].shape
    return PairData(name, sum(len(x) for x, _ in chunks), channels, block, lambda: chunks)


def _from_moments(
    graph: ChannelGraph,
    stream: Callable[[OnRows], Iterator[None]],
    sampling: Sampling,
    settings: Gaussian,
    keep: Callable[[gaussian.PairState], gaussian.PairState | gaussian.StateAside],
) -> dict[str, PairInformation]:
    """The closed form of every pair; rows are held only where they are much fewer than features."""
    sums: dict[str, MomentSums] = {}
    scratch, freed = Scratch(), FreedMemory()
    few: dict[str, list[tuple[Tensor, Tensor]]] = {}
    counts = {p.name: sampling.images * sampling.per_image(p.positions) for p in graph.pairs}

    def add(name: str, x: Tensor, y: Tensor) -> None:
        if gaussian.prefers_dual(counts[name], x[0].numel()):
            few.setdefault(name, []).append((x, y))
        else:
            sums.setdefault(name, MomentSums("rows", scratch)).add(x, y)

    for _ in stream(add):
        pass
    freed.give_back()
    shared = {"ridge": settings.ridge, "resolution": settings.resolution}
    channels = {pair.name: pair.features.shape[0] for pair in graph.pairs}
    found: dict[str, PairInformation] = {}
    for name in track(list(sums), total=len(sums), label="estimate"):
        moments = _moments(name, sums)
        found[name] = keep(gaussian.prepare(moments, channels[name], overwrite=True, **shared))
        del moments
        freed.give_back()
    for name in list(few):
        x, y = _pair_data(name, few.pop(name)).whole()
        found[name] = keep(gaussian.prepare_dual(x, y, channels[name], **shared))
    return found


def _moments(name: str, sums: dict[str, MomentSums]) -> Moments:
    """A pair's moments; its sums are not needed any more."""
    try:
        return sums.pop(name).moments()
    except ActivationError as error:
        raise ActivationError(f"layer pair {name}: {error}") from error
