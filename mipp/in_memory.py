"""Information of every layer pair from one forward pass, with nothing written to a disk."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from mipp.activations import Sampling, capture_rows
from mipp.activations.capture import Rows
from mipp.budget import parse_budget
from mipp.config import ChooseConfig, EstimateConfig, ExtractConfig
from mipp.graph import ChannelGraph
from mipp.information import gaussian
from mipp.information.estimators import ESTIMATORS, PairData
from mipp.information.moments import MomentSums
from mipp.information.protocols import Information, PairInformation, SampledInformation
from mipp.inputs import Inputs, count
from mipp.progress import track

EXTRACT, ESTIMATE = ExtractConfig(), EstimateConfig()


def measure_information(
    model: nn.Module,
    graph: ChannelGraph,
    inputs: list[Inputs],
    config: ChooseConfig,
    seed: int,
) -> Information:
    """Answers for every pair.

    The closed form adds moments up as the network runs; another estimator, or a test of
    significance, holds all sampled rows.

    Parameters
    ----------
    inputs : batches, on the model's device.
    config : its estimator and budget decide what is prepared.
    seed : of the sampled rows.
    """
    sampling = Sampling(EXTRACT.rows, sum(count(x) for x in inputs), seed)
    batches = track(inputs, total=len(inputs), label="extract")
    rows = capture_rows(model, graph.pairs, batches, sampling)
    tested = parse_budget(config.budget).kind == "confidence"
    if config.estimator == "gaussian" and not tested:
        return _from_moments(graph, rows, sampling)
    chunks: dict[str, list[tuple[Tensor, Tensor]]] = {pair.name: [] for pair in graph.pairs}
    for batch in rows:
        for name, part in batch.items():
            chunks[name].append(part)
    estimator = ESTIMATORS[config.estimator]
    answers = estimator.samples if tested else estimator.answers
    found: dict[str, PairInformation | SampledInformation] = {}
    for pair in track(graph.pairs, total=len(graph.pairs), label="estimate"):
        data = _pair_data(pair.name, chunks[pair.name])
        state = estimator.prepare(data, ESTIMATE, seed)
        found[pair.name] = answers(state, data, ESTIMATE, seed)
    return found


def _pair_data(name: str, chunks: list[tuple[Tensor, Tensor]]) -> PairData:
    _, channels, block = chunks[0][0].shape
    return PairData(name, sum(len(x) for x, _ in chunks), channels, block, lambda: chunks)


def _from_moments(
    graph: ChannelGraph, rows: Iterator[Rows], sampling: Sampling
) -> dict[str, PairInformation]:
    """The closed form of every pair; rows are held only where they are much fewer than features."""
    sums: dict[str, MomentSums] = {}
    few: dict[str, list[tuple[Tensor, Tensor]]] = {}
    counts = {p.name: sampling.images * sampling.per_image(p.positions) for p in graph.pairs}
    for batch in rows:
        for name, (x, y) in batch.items():
            if gaussian.prefers_dual(counts[name], x[0].numel()):
                few.setdefault(name, []).append((x, y))
            else:
                sums.setdefault(name, MomentSums("rows")).add(x, y)
    settings = {"ridge": ESTIMATE.ridge, "resolution": ESTIMATE.resolution}
    channels = {pair.name: pair.features.shape[0] for pair in graph.pairs}
    found: dict[str, PairInformation] = {
        name: gaussian.prepare(sums.pop(name).moments(), channels[name], overwrite=True, **settings)
        for name in track(list(sums), total=len(sums), label="estimate")
    }
    for name, chunks in few.items():
        x, y = _pair_data(name, chunks).whole()
        found[name] = gaussian.prepare_dual(x, y, channels[name], **settings)
    return found
