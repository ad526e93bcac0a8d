"""Every case whose answer is known, measured anew.

Run from a checkout: the closed forms and slow twins are those of the tests. Exit code 1 if a case
does not hold.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from scipy import stats

from benchmarks.shared.command import circumstances, parse, parser
from benchmarks.shared.kept import RESULTS, read_json, write_json
from benchmarks.shared.tables import markdown, print_table
from mipp.activations import Sampling
from mipp.cut import apply_selection
from mipp.information import gaussian, moments, reconstruction
from mipp.information.gaussian.folds import FoldedInformation
from mipp.information.reconstruction.rows import pair_rows
from mipp.information.reconstruction.settings import ReconstructionSettings
from mipp.metrics import count_macs, count_params
from mipp.models import MODELS
from mipp.progress import track
from mipp.refit import RefitSettings, refit
from mipp.selection.rules import Confidence, Consumer, Threshold
from mipp.selection.selection import keep_all
from mipp.selection.visits import visit_once, visiting_order
from tests.oracles import (
    RefitTwin,
    build_small,
    discrete_nats,
    dropped_channels_zeroed,
    graph_of,
    images_for,
    prepare_rows,
    random_selection,
    rows_of_pair,
    total_correlation,
)

PAGE, FILE = Path("docs/validation.md"), RESULTS / "validation.json"
PUBLISHED = {2: 0.2939, 3: 0.4133, 5: 0.5928, 25: 1.2922, 50: 1.6243}  # multinormal-dense
SAMPLES = (100, 300, 1000, 3000, 10_000)
SETTINGS = {"ridge": 1e-3, "resolution": 0.3}
TINY = {"ridge": 1e-9, "resolution": 1e-12}
BIT_SEEDS = range(10)
FloatArray = np.ndarray


@dataclass(frozen=True)
class Check:
    """One line of the page; `measured` is a text, `holds` whether it is as expected."""

    subject: str
    claim: str
    expected: str
    measured: str
    tolerance: str
    holds: bool


def near(subject: str, claim: str, expected: float, measured: float, tolerance: float) -> Check:
    holds = abs(measured - expected) <= tolerance
    return Check(subject, claim, f"{expected:.6g}", f"{measured:.6g}", f"{tolerance:g}", holds)


def at_most(subject: str, claim: str, measured: float, tolerance: float) -> Check:
    return Check(subject, claim, "0", f"{measured:.2g}", f"{tolerance:g}", measured <= tolerance)


# Gaussian information


def gaussian_information() -> Iterator[Check]:
    for rho in (0.0, 0.5, -0.9):
        found = population_nats(np.array([[1, rho], [rho, 1.0]]), 1)
        expected = -0.5 * math.log(1 - rho**2) or 0.0
        yield near("Gaussian MI", f"bivariate normal, rho {rho:g}", expected, found, 1e-8)
    for size, nats in PUBLISHED.items():
        found = population_nats(dense_normal(size), size)
        yield near("Gaussian MI", f"multinormal-dense {size}-{size}", nats, found, 1e-4)


def dense_normal(size: int) -> FloatArray:
    return np.full((2 * size, 2 * size), 0.5) + 0.5 * np.eye(2 * size)


def population_nats(covariance: FloatArray, split: int) -> float:
    """Information of jointly normal variables through the closed form's state.

    The state adds up targets one by one; what these share among themselves is taken off.
    """
    cov = torch.from_numpy(np.asarray(covariance, float))
    sums = moments.Moments(
        1,
        torch.zeros(split).double(),
        torch.zeros(len(cov) - split).double(),
        cov[:split, :split].clone(),
        cov[:split, split:].clone(),
        cov.diagonal()[split:].clone(),
    )
    state = gaussian.prepare(sums, split, **TINY)
    return state.joint(torch.arange(len(cov) - split)) - shared(np.asarray(covariance), split)


def shared(covariance: FloatArray, split: int) -> float:
    xx, xy, yy = covariance[:split, :split], covariance[:split, split:], covariance[split:, split:]
    return total_correlation(yy) - total_correlation(yy - xy.T @ np.linalg.solve(xx, xy))


def sampled_normals(seeds: int = 20) -> list[list[str]]:
    """Bias and spread of the closed form on samples of the published normals."""
    rows = []
    for size, nats in PUBLISHED.items():
        cells = [f"{size}-{size}", f"{nats:.4f}"]
        for n in SAMPLES:
            found = [sampled_nats(size, n, seed) - nats for seed in range(seeds)]
            cells.append(f"{mean(found):+.4f} ± {stdev(found):.4f}")
        rows.append(cells)
    return rows


def sampled_nats(size: int, n: int, seed: int) -> float:
    rng = np.random.default_rng([seed, size, n])
    rows = rng.multivariate_normal(np.zeros(2 * size), dense_normal(size), n)
    return population_nats(np.cov(rows.T, bias=True), size)


# Closed form against its slow twin


def closed_form(seeds: int = 5) -> Iterator[Check]:
    worst = worst_dual = worst_chunk = 0.0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        x, y = rows_of_pair(rng, n=80, channels=8, block=3, targets=5)
        twin, every = RefitTwin(x, y, **SETTINGS), torch.arange(5)
        state = prepare_rows(x, y, **SETTINGS)
        whole = torch.as_tensor(x), torch.as_tensor(y)
        chunks = zip(*(values.split(7) for values in whole), strict=True)
        chunked = gaussian.prepare(moments.stream(chunks), 8, **SETTINGS)
        left, third, present = state.eliminate(every), chunked.eliminate(every), set(range(8))
        few = whole[0][:16], whole[1][:16]
        primal = gaussian.prepare(moments.of_rows(*few), 8, **SETTINGS).eliminate(every)
        dual = gaussian.prepare_dual(*few, 8, **SETTINGS).eliminate(every)
        for channel in map(int, rng.permutation(8)):
            expected = twin.loss(present, channel)
            worst = max(worst, abs(left.loss(channel) - expected))
            worst_dual = max(worst_dual, abs(dual.loss(channel) - primal.loss(channel)))
            worst_chunk = max(worst_chunk, abs(third.loss(channel) - left.loss(channel)))
            for elimination in (left, third, primal, dual):
                elimination.drop(channel)
            present.remove(channel)
    few_rows = "primal against dual form, 16 rows of 24 features"
    yield at_most("closed form", "largest difference from a refit after each drop", worst, 1e-10)
    yield at_most("closed form", few_rows, worst_dual, 1e-9)
    yield at_most("closed form", "chunks of 7 rows against all at once", worst_chunk, 1e-10)


# TERC on linear cases


def linear_terc(seeds: int = 20) -> Iterator[Check]:
    pairs = sums = permuted = 0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        base = rng.normal(size=(300, 4))
        y = base + 0.3 * rng.normal(size=base.shape)
        order = rng.permutation(8)
        copies = np.tile(np.arange(4), 2)[order]
        kept = terc(base[:, copies], y, 0.01)
        pairs += sorted(copies[kept]) == [0, 1, 2, 3]
        with_sum = np.column_stack([base, base[:, 0] + base[:, 1]])
        kept = terc(with_sum, y, 0.01)
        sums += len(kept) == 4 and {2, 3} <= set(kept)
        x = base @ rng.normal(size=(4, 6)) + 0.3 * rng.normal(size=(300, 6))
        order = rng.permutation(6)
        permuted += sorted(order[terc(x[:, order], y, 0.1)]) == sorted(terc(x, y, 0.1))
    for claim, count in (
        ("every column doubled: exactly one copy of each survives", pairs),
        ("a column that is the sum of two: one of the three goes", sums),
        ("permuting columns permutes the answer", permuted),
    ):
        yield near("TERC, linear", f"{claim}, of {seeds} seeds", seeds, count, 0)


def terc(x: FloatArray, y: FloatArray, threshold: float) -> list[int]:
    state = prepare_rows(x[:, :, None], y, ridge=1e-6, resolution=0.1)
    every = torch.arange(y.shape[1])
    single = state.single(every)
    elimination = state.eliminate_in_order(every, visiting_order(single))
    verdicts = visit_once([Consumer(elimination)], single, Threshold(threshold), 0)
    return sorted(v.channel for v in verdicts if v.kept)


# Null column


def null_columns(seeds: int = 1000) -> Iterator[Check]:
    for targets in (1, 3, 10):
        dropped = sum(null_is_dropped(targets, seed) for seed in range(seeds))
        share = dropped / seeds
        yield near(
            "null column",
            f"noise dropped at 95 % confidence, {targets} targets, share of {seeds} seeds",
            0.95,
            share,
            0.02,
        )


def null_is_dropped(targets: int, seed: int) -> bool:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1000, 6, 1, generator=generator, dtype=torch.float64)
    weights = torch.randn(5, targets, generator=generator, dtype=torch.float64)
    noise = torch.randn(1000, targets, generator=generator, dtype=torch.float64)
    y = x[:, :5, 0] @ weights + noise
    whole = gaussian.prepare_rows(x, y, 6, ridge=1e-6, resolution=0.3)
    folded = FoldedInformation(whole, lambda: (x, y), 5, 1e-6, seed + 1000)
    elimination = folded.eliminate_in_order(torch.arange(targets), [5, *range(5)])
    return not Confidence(95).judge([Consumer(elimination)], 5).stays


# TERC's toy sets


def bits(copies: str, n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Columns x (n, 6, 1), whether the three bits are equal (n,), and which bit each column is."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, (n, 3))
    equal = (x.min(1) == x.max(1)).astype(np.int64)
    columns = [0, 1, 2, 0, 0, 0] if copies == "first bit" else [0, 1, 2, 0, 1, 2]
    columns = [columns[i] for i in rng.permutation(6)]
    return torch.from_numpy(2.0 * x[:, columns] - 1)[:, :, None], torch.from_numpy(equal), columns


def toy_sets() -> Iterator[Check]:
    for copies in ("first bit", "all bits"):
        right, joints, linear = 0, [], []
        for seed in track(BIT_SEEDS, total=len(BIT_SEEDS), label=f"bits, {copies}"):
            x, y, columns = bits(copies, 10_000, seed)
            settings = ReconstructionSettings(seed=seed)
            rows = pair_rows(x, y, settings, copies)
            state = reconstruction.prepare(rows, settings)
            pair = reconstruction.ReconstructionInformation(state, lambda rows=rows: rows, settings)  # type: ignore[misc]
            target = torch.tensor([0])
            single, joint = pair.single(target), pair.joint(target)
            elimination = pair.eliminate_in_order(target, visiting_order(single))
            verdicts = visit_once([Consumer(elimination)], single, Confidence(95, 1e-3 * joint), 0)
            kept = sorted(columns[v.channel] for v in verdicts if v.kept)
            right += kept == [0, 1, 2]
            joints.append(joint)
            linear.append(
                gaussian.prepare_rows(x, y[:, None].double(), 6, ridge=1e-3, resolution=1e-3).joint(
                    target
                )
            )
        name = f"A = [x1 = x2 = x3], copies of {copies}"
        yield near("TERC toy set", f"{name}: one copy of each bit kept, of 10 seeds", 10, right, 1)
        yield near("TERC toy set", f"{name}: joint information, nats", 0.5623, mean(joints), 0.01)
        yield near("linear limit", f"{name}: what `gaussian` sees, nats", 0, mean(linear), 0.002)
    states = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
    equal = (states.min(1) == states.max(1)).astype(int)[:, None]
    yield near("TERC toy set", "enumerated: three bits", 0.5623, discrete_nats(states, equal), 1e-4)
    yield near("TERC toy set", "enumerated: one bit", 0, discrete_nats(states[:, :1], equal), 1e-12)


# Networks


def networks() -> Iterator[Check]:
    for name in ("lenet5", "resnet20", "vgg11"):
        if name in MODELS:
            yield at_most(
                "surgery", f"{name}: against zeroing at the consumers", cut_error(name), 1e-9
            )
    dense, images = build_small("resnet20"), images_for("resnet20", 64)
    graph = graph_of("resnet20")
    settings = RefitSettings(1e-2, Sampling(512, 64, 0))
    selection = random_selection(graph, 0)
    pruned = apply_selection(dense, selection, images[:1])
    fits = refit(pruned, dense, graph, selection, lambda: [images], settings)
    rise = max(fit.error_after - fit.error_before for fit in fits)
    yield at_most("refit", "resnet20: largest rise of a layer's error", max(rise, 0.0), 1e-9)
    same = copy.deepcopy(dense)
    refit(same, dense, graph, keep_all(graph.widths), lambda: [images], settings)
    change = max(
        float((a - b).abs().max())
        for a, b in zip(same.parameters(), dense.parameters(), strict=True)
    )
    yield at_most("refit", "nothing dropped: change of the weights", change, 0)
    lenet = build_small("lenet-300-100")
    yield near("sizes", "LeNet-300-100, parameters", 266_610, count_params(lenet), 0)
    yield near("sizes", "LeNet-300-100, MACs", 266_200, count_macs(lenet, (1, 28, 28)), 0)


def cut_error(name: str) -> float:
    model, graph, images = build_small(name), graph_of(name), images_for(name, 2, 0)
    selection = random_selection(graph, 0)
    pruned = apply_selection(model, selection, images[:1])
    with torch.no_grad(), dropped_channels_zeroed(model, graph, selection):
        expected = model(images)
        return float((pruned(images) - expected).abs().max() / expected.abs().max())


# Where each estimator is blind

Draw = Callable[[np.random.Generator, int], tuple[FloatArray, FloatArray]]


def _normal(rng: np.random.Generator, n: int) -> FloatArray:
    return rng.multivariate_normal([0, 0], [[1, 0.75], [0.75, 1]], n)


def _student(degrees: float) -> tuple[str, float, Draw]:
    law = stats.multivariate_t([0, 0], [[1, 0.5], [0.5, 1]], df=degrees)

    def draw(rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
        rows = law.rvs(n, random_state=rng)
        return rows[:, 0], rows[:, 1]

    rows = law.rvs(1_000_000, random_state=np.random.default_rng(0))
    margin = stats.t(degrees).logpdf(rows).sum(1)
    truth = float((law.logpdf(rows) - margin).mean())
    return f"Student t, {degrees:g} degrees of freedom, scale 0.5", truth, draw


def blind_spots() -> list[tuple[str, float, Draw]]:
    normal = -0.5 * math.log(1 - 0.75**2)
    return [
        ("normal, rho 0.75", normal, lambda rng, n: tuple(_normal(rng, n).T)),
        ("the same, x cubed", normal, lambda rng, n: (_normal(rng, n) ** [3, 1]).T),
        ("the same, both through tanh(2 x)", normal, lambda rng, n: np.tanh(2 * _normal(rng, n)).T),
        ("y = x^2 + noise, x normal", _square_truth(), _square),
        ("y: sign of x1 x2, a bit", math.log(2), _sign),
        _student(5),
        _student(2),
    ]


NOISE = 0.5


def _square(rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    x = rng.normal(size=n)
    return x, x**2 + NOISE * rng.normal(size=n)


def _square_truth() -> float:
    """H(Y) - H(Y | X) on a grid."""
    x = np.linspace(-8, 8, 8001)
    weight = stats.norm.pdf(x) * (x[1] - x[0])
    y = np.linspace(-3, 60, 8001)
    density = np.array([(weight * stats.norm.pdf(v, x**2, NOISE)).sum() for v in y])
    entropy = -(density * np.log(np.maximum(density, 1e-300))).sum() * (y[1] - y[0])
    return float(entropy - 0.5 * math.log(2 * math.pi * math.e * NOISE**2))


def _sign(rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    x = rng.normal(size=(n, 2))
    return x, (x[:, 0] * x[:, 1] > 0).astype(np.int64)


def blind_table(n: int = 10_000, seeds: int = 3) -> list[list[str]]:
    rows = []
    cases = blind_spots()
    for name, truth, draw in track(cases, total=len(cases), label="blind spots"):
        found: dict[str, list[float]] = {"gaussian": [], "reconstruction": []}
        for seed in range(seeds):
            x, y = draw(np.random.default_rng(seed), n)
            features = torch.as_tensor(np.reshape(x, (n, -1, 1))).double()
            target = torch.as_tensor(np.asarray(y))
            found["gaussian"].append(
                gaussian.prepare_rows(
                    features, target.double()[:, None], features.shape[1], **TINY
                ).joint(torch.arange(1))
            )
            settings = ReconstructionSettings(seed=seed, resolution=1e-9)
            y_rows = target if target.dtype == torch.int64 else target[:, None].float()
            pair = pair_rows(features.float(), y_rows, settings, name)
            state = reconstruction.prepare(pair, settings)
            estimate = reconstruction.ReconstructionInformation(state, lambda p=pair: p, settings)  # type: ignore[misc]
            found["reconstruction"].append(estimate.joint(torch.arange(1)))
        cells = [f"{mean(v):.3f} ± {stdev(v):.3f}" for v in found.values()]
        rows.append([name, f"{truth:.3f}", *cells])
    return rows


# The page


SUITES = (gaussian_information, closed_form, linear_terc, null_columns, toy_sets, networks)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    return parse(parser("validation", __doc__ or "", PAGE), given)


def main(given: Sequence[str] | None = None) -> int:
    options = arguments(given)
    torch.set_num_threads(options.threads)
    suites = track(SUITES, total=len(SUITES), label="suites")
    checks = [asdict(check) for suite in suites for check in suite()]
    print_table([{"case": check.pop("claim"), **check} for check in map(dict, checks)])
    results = {
        "checks": checks,
        "samples": sampled_normals(),
        "blind": blind_table(),
        **circumstances(options),
    }
    if options.write:
        write_json(FILE, results)
        write_page()
    return 0 if all(check["holds"] for check in checks) else 1


def write_page() -> None:
    """The page of the run that is kept."""
    PAGE.write_text("\n".join(page(read_json(FILE))))


def page(results: Mapping[str, Any]) -> list[str]:
    """docs/validation.md, line by line."""
    checks = [Check(**check) for check in results["checks"]]
    oracle_rows = [
        [c.subject, c.claim, c.expected, c.measured, c.tolerance, "yes" if c.holds else "**no**"]
        for c in checks
    ]
    return [
        "# Validation",
        "",
        "Written by `python -m benchmarks.validation --write`: cases whose answer is known before "
        f"the code runs. {sum(c.holds for c in checks)} of {len(checks)} hold.",
        "",
        *markdown(["subject", "case", "expected", "measured", "tolerance", "holds"], oracle_rows),
        "",
        "Whether more rows prune more at equal confidence: see [confidence.md](confidence.md); "
        "they do with the reconstruction, and do not with the closed form.",
        "",
        "## Gaussian information from samples",
        "",
        "Closed form on samples of the published multinormal-dense laws (every two of the "
        "variables correlate by 0.5), in nats: bias ± spread over 20 seeds. The bias is that of "
        "a covariance fitted to few rows, about d m / 2 n for d features and m targets.",
        "",
        *markdown(["dimensions", "truth", *(f"n = {n:,}" for n in SAMPLES)], results["samples"]),
        "",
        "## Where each estimator is blind",
        "",
        "10,000 rows, 3 seeds, nats. The closed form measures what a linear predictor explains: "
        "it misses what is not linear, is led by the tails where variances hardly exist, and is "
        "exact for normal variables. The reconstruction follows nonlinear dependence, but its "
        "squared error is turned into nats as that of normal variables: it errs either way "
        "where the target or its noise is far from normal.",
        "",
        *markdown(["case", "truth", "gaussian", "reconstruction"], results["blind"]),
        "",
        "On TERC's toy sets no linear predictor sees anything (the table above, `linear limit`): "
        "pre-activations are linear in what feeds them, so the closed form is at home between a "
        "layer and the next, and nowhere else by right.",
        "",
    ]


if __name__ == "__main__":
    sys.exit(main())
