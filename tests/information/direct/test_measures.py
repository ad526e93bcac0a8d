"""Measures of information against Gaussian ground truths, and what each cannot see."""

import math

import numpy as np
import pytest
import torch

from mipp.direct_settings import (
    NWJ,
    TUBA,
    Diffusion,
    Histogram,
    InfoNCE,
    Interpolated,
    KernelDensity,
    Mine,
    Neighbours,
)
from mipp.errors import EstimationError
from mipp.information.direct import diffusion, histogram, kernel_density, neighbours, variational
from mipp.information.direct.eliminate import DirectInformation

N = 1500
COUNTED = {
    "neighbours": (neighbours.measure_by_neighbours, Neighbours()),
    "kernel-density": (kernel_density.measure_by_kernels, KernelDensity()),
    "histogram": (histogram.measure_by_cells, Histogram()),
}
BOUNDED = {
    kind.BOUND: (variational.measure_by_critic, kind(width=32, steps=200, batch_size=64))
    for kind in (InfoNCE, NWJ, TUBA, Mine, Interpolated)
}
DENOISED = {"diffusion": (diffusion.measure_by_diffusion, Diffusion(steps=600))}
TRAINED = [
    pytest.param(name, marks=pytest.mark.slow if name != "infonce" else ())
    for name in BOUNDED | DENOISED
]
EVERY = COUNTED | BOUNDED | DENOISED


def two(rho, n=N, seed=0):
    """Two normal variables of correlation rho, and -log(1 - rho^2) / 2."""
    z = np.random.default_rng(seed).standard_normal((n, 2))
    y = rho * z[:, 0] + math.sqrt(1 - rho**2) * z[:, 1]
    x, y = (torch.from_numpy(v.reshape(-1, 1)) for v in (z[:, 0], y))
    return x, y, -math.log(1 - rho**2) / 2


def dense(m, n, seed=0):
    """Two times m normal variables, every two of correlation a half; log of determinants."""
    covariance = np.full((2 * m, 2 * m), 0.5) + 0.5 * np.eye(2 * m)
    z = np.random.default_rng(seed).multivariate_normal(np.zeros(2 * m), covariance, n)
    parts = covariance[:m, :m], covariance[m:, m:], covariance
    a, b, both = (np.linalg.slogdet(part)[1] for part in parts)
    return torch.from_numpy(z[:, :m]), torch.from_numpy(z[:, m:]), (a + b - both) / 2


def nats(name, x, y, seed=0):
    measure, settings = EVERY[name]
    return measure(x, y, settings, seed)


@pytest.mark.parametrize("name", [*COUNTED, *TRAINED])
@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_two_normal_variables(name, rho):
    x, y, true = two(rho)
    assert nats(name, x, y) == pytest.approx(true, abs=0.06)


@pytest.mark.parametrize("name", ["neighbours", *TRAINED])
def test_several_normal_variables(name):
    x, y, true = dense(3, 2500)
    assert true == pytest.approx(0.4133, abs=5e-5)  # published, multinormal-dense 3-3
    assert nats(name, x, y) == pytest.approx(true, abs=0.12)


@pytest.mark.parametrize("name", ["neighbours", "histogram", *TRAINED])
def test_what_is_told_together_only(name):
    """x0 xor x1, of which neither tells anything alone."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.choice([-1.0, 1.0], size=(N, 2)))
    y = x.prod(1, keepdim=True)
    assert abs(nats(name, x[:, :1], y)) < 0.05
    assert nats(name, x, y) > 0.3


@pytest.mark.parametrize("name", [*COUNTED, *TRAINED])
def test_a_copy_adds_less_than_its_original_without_it(name):
    x, y, _ = two(0.8)
    measure, settings = EVERY[name]
    noise = torch.from_numpy(np.random.default_rng(1).standard_normal((N, 1)))
    columns = torch.cat([x, x, noise], 1).unsqueeze(2)
    information = DirectInformation(columns, y, lambda x, y: measure(x, y, settings, 0))
    elimination = information.eliminate(torch.tensor([0]))
    beside = elimination.loss(0)
    elimination.drop(1)
    assert elimination.loss(0) > max(3 * abs(beside), 0.25)


@pytest.mark.parametrize("name", [*COUNTED, *TRAINED])
def test_order_of_columns_and_rows(name):
    x, y, _ = dense(1 if name == "histogram" else 2, 600)
    first = nats(name, x, y)
    if name in COUNTED:
        rows = torch.randperm(600, generator=torch.Generator().manual_seed(1))
        assert nats(name, x[rows].flip(1), y[rows]) == pytest.approx(first, abs=1e-6)
    assert nats(name, x, y) == first


@pytest.mark.parametrize("name", COUNTED)
def test_either_side_may_be_the_first(name):
    x, y, _ = dense(1 if name == "histogram" else 2, 600)
    assert nats(name, x, y) == pytest.approx(nats(name, y, x), abs=1e-6)


@pytest.mark.parametrize("columns", [2, 10])
def test_neighbours_are_those_of_counting(columns):
    """Equation (8) with every distance written out; in few columns by trees."""
    x, y, _ = dense(columns // 2, 60)
    apart = [(side[:, None] - side[None]).abs().amax(2).numpy() for side in (x, y)]
    joint = np.maximum(*apart)
    np.fill_diagonal(joint, np.inf)
    radius = np.sort(joint, 1)[:, 2]  # of the third
    from scipy.special import digamma

    told = digamma(3) + digamma(60)
    for side in apart:
        told -= digamma((side < radius[:, None]).sum(1)).mean()
    assert nats("neighbours", x, y) == pytest.approx(told, abs=1e-6)


def test_kernels_are_those_of_scipy():
    from scipy.stats import gaussian_kde

    x, y, _ = two(0.7, n=40)
    both = torch.cat([x, y], 1).numpy()

    def log(columns):
        """Density of each row by the others, with the covariance of all rows."""
        kde = gaussian_kde(columns.T, "silverman")
        n, d = columns.shape
        whole = np.cov(columns.T, bias=True).reshape(d, d) * kde.factor**2
        inverse = np.linalg.inv(whole)
        apart = columns[:, None] - columns[None]
        kernels = np.exp(-np.einsum("ijk,kl,ijl->ij", apart, inverse, apart) / 2)
        np.fill_diagonal(kernels, 0)
        size = (n - 1) * math.sqrt((2 * math.pi) ** d * np.linalg.det(whole))
        return np.log(kernels.sum(1) / size)

    told = (log(both) - log(both[:, :1]) - log(both[:, 1:])).mean()
    assert nats("kernel-density", x, y) == pytest.approx(told, abs=1e-9)


def test_cells_are_counted_and_their_bias_is_taken_off():
    """Four values each, drawn together: entropies by hand."""
    codes = np.array([0, 0, 1, 1, 2, 2, 3, 3] * 25)
    x = torch.from_numpy(codes.astype(float).reshape(-1, 1))
    y = (x >= 2).double()
    measure = histogram.measure_by_cells(x, y, Histogram(bins=4), 0)
    plain = math.log(4) + math.log(2) - math.log(4)
    assert measure == pytest.approx(plain + (3 + 1 - 3) / (2 * 200))


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("rare", [np.zeros(50), np.arange(-50.0, 0.0)], ids=["equal", "different"])
def test_rare_values_are_told_from_a_frequent_one_on_either_side(sign, rare):
    """5 in 100: the entropy of whether it is one of them, with the bias of two cells taken off."""
    x = torch.from_numpy(np.concatenate([rare, np.ones(950)]).reshape(-1, 1))
    y = (x == 1).double()
    entropy = -0.05 * math.log(0.05) - 0.95 * math.log(0.95)
    measure = histogram.measure_by_cells(sign * x, y, Histogram(bins=8), 0)
    assert measure == pytest.approx(entropy + (1 + 1 - 1) / (2 * 1000))


def test_rows_in_a_bin_are_the_same_upside_down():
    """By hand: an eighth of 99 steps between 100 rows is 12.375; 99 is in rows 41 to 100."""
    column = np.array([*range(1, 41), *[99] * 60], dtype=float).reshape(-1, 1)
    assert np.bincount(histogram.binned(column, 8)[:, 0]).tolist() == [13, 12, 13, 2, 0, 60]
    assert np.bincount(histogram.binned(-column, 8)[:, 0]).tolist() == [0, 0, 60, 0, 2, 13, 12, 13]


def test_columns_without_equal_values_are_cut_at_their_quantiles():
    column = np.random.default_rng(0).normal(size=(123, 1))
    cuts = np.quantile(column, np.arange(1, 8) / 8)
    assert np.array_equal(histogram.binned(column, 8), (column > cuts).sum(1, keepdims=True))


def test_too_many_cells_are_refused():
    x, y, _ = dense(4, 800)
    with pytest.raises(EstimationError, match=r"cells of 4 \+ 4 columns cut into 8 bins"):
        nats("histogram", x, y)


def test_contrast_never_tells_more_than_the_log_of_a_batch():
    scores = 100 * torch.eye(16)
    told = variational.infonce(scores, torch.zeros(16))
    assert float(told) == pytest.approx(math.log(16))


@pytest.mark.parametrize("bound", ["nwj", "tuba", "interpolated", "infonce"])
def test_bounds_at_the_best_critic_are_below_the_truth(bound):
    """With f the log ratio of densities (plus 1 for NWJ), the mean over batches is no more."""
    true, found = 0.0, []
    for seed in range(200):
        x, y, true = two(0.8, n=64, seed=seed)
        log = log_ratio(x, y.T, 0.8)
        scores = log + 1 if bound == "nwj" else log
        found.append(float(variational.BOUNDS[bound](scores, torch.zeros(64))))
    error = np.std(found) / math.sqrt(len(found))
    assert np.mean(found) <= true + 3 * error
    if bound in ("nwj", "tuba"):  # tight there
        assert np.mean(found) == pytest.approx(true, abs=4 * error)


def test_the_logarithm_of_a_small_batch_tells_too_much():
    """Donsker and Varadhan's bound holds for all pairs, not for the mean of few: Poole 2019."""
    found = []
    for seed in range(400):
        x, y, true = two(0.95, n=8, seed=seed)
        found.append(float(variational.mine(log_ratio(x, y.T, 0.95), torch.zeros(8))))
    assert np.mean(found) > true


def log_ratio(x, y, rho):
    """log p(y | x) / p(y) of normal variables."""
    rest = 1 - rho**2
    return -math.log(rest) / 2 - (y - rho * x) ** 2 / (2 * rest) + y**2 / 2
