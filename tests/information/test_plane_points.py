"""Points of information planes: chains with known answers, bounds, and what no layer can do."""

import itertools
import math

import pytest
import torch

from mipp.information.plane import PLANE_ESTIMATORS, measure_by_cells, measure_by_mixture

EIGHT = torch.arange(8)
CHAIN = [EIGHT, EIGHT // 2, EIGHT // 4, EIGHT // 8]  # each is told by the one before
FINE = 0.01  # cells that hold one value each


@pytest.mark.parametrize(("depth", "inputs"), [(0, 8), (1, 4), (2, 2), (3, 1)])
def test_a_discrete_chain_has_the_entropies_of_what_is_left(depth, inputs):
    layer = CHAIN[depth][:, None].float()
    half = measure_by_cells(layer, EIGHT // 4, FINE)
    parity = measure_by_cells(layer, EIGHT % 2, FINE)
    assert half.inputs == pytest.approx(math.log(inputs))
    assert half.labels == pytest.approx(math.log(2) if inputs > 1 else 0, abs=1e-12)
    assert parity.labels == pytest.approx(math.log(2) if depth == 0 else 0, abs=1e-12)


def test_the_cells_of_a_layer_tell_no_less_than_cells_that_they_tell(seed):
    """The data-processing inequality where it must hold: a cell of 0.25 is told by one of 0.125."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(400, 2, generator=generator)
    values[0], values[1] = 0.0, 1.0  # the range
    labels = torch.randint(4, (400,), generator=generator)
    points = [measure_by_cells(values, labels, width) for width in (0.0625, 0.125, 0.25, 0.5)]
    for finer, coarser in itertools.pairwise(points):
        assert finer.inputs > coarser.inputs
        assert finer.labels >= coarser.labels


@pytest.mark.parametrize("name", PLANE_ESTIMATORS)
@pytest.mark.parametrize("units", [1, 50])
def test_no_layer_tells_more_than_there_is(name, units, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (60,), generator=generator)
    values = torch.randn(60, units, generator=generator) + labels[:, None]
    shares = torch.bincount(labels).double() / 60
    entropy = float(torch.special.entr(shares).sum())
    for resolution in (1e-4, 0.03, 0.3, 3.0):
        point = PLANE_ESTIMATORS[name].measure(values, labels, resolution)
        assert 0 <= point.inputs <= math.log(60) + 1e-9
        assert point.labels <= entropy + 1e-9
    finest = PLANE_ESTIMATORS[name].measure(values, labels, 1e-7)
    assert finest.inputs == pytest.approx(math.log(60))  # Saxe, Goldfeld: a deterministic layer


def test_mixture_of_two_far_apart_is_that_of_a_fair_coin():
    values = torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0], [3.0, 4.0]])
    point = measure_by_mixture(values, torch.tensor([0, 0, 1, 1]), 1e-3)
    assert point.inputs == pytest.approx(math.log(2))
    assert point.labels == pytest.approx(math.log(2))


def test_mixture_is_its_bound_written_out(seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(12, 3, generator=generator, dtype=torch.float64)
    labels = torch.arange(12) % 2
    noise = 0.2 * sum(float((v - values.mean(0)).square().sum()) for v in values) / 12
    near = [
        [math.exp(-float((a - b).square().sum()) / (2 * noise)) for b in values] for a in values
    ]
    inputs = -sum(math.log(sum(row) / 12) for row in near) / 12
    within = -sum(math.log(sum(row[i % 2 :: 2]) / 6) for i, row in enumerate(near)) / 12
    point = measure_by_mixture(values, labels, 0.2)
    assert point == pytest.approx((inputs, inputs - within), rel=1e-10)


def test_mixture_tells_no_more_where_no_two_images_lie_further_apart():
    """Another inequality that must hold: shrunken distances at the same noise."""
    values = torch.randn(40, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    part = values[:, :2]
    of_all, of_part = (float((v - v.mean(0)).square().sum(1).mean()) for v in (values, part))
    labels = torch.arange(40) % 3
    whole = measure_by_mixture(values, labels, 0.1)
    projected = measure_by_mixture(part, labels, 0.1 * of_all / of_part)
    assert projected.inputs < whole.inputs


@pytest.mark.parametrize("name", PLANE_ESTIMATORS)
def test_a_layer_that_says_always_the_same_tells_nothing(name):
    point = PLANE_ESTIMATORS[name].measure(torch.ones(9, 4), torch.arange(9) % 2, 0.1)
    assert point == pytest.approx((0.0, 0.0), abs=1e-12)
