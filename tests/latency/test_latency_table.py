"""The table of times: interpolation, no falling entries, and what the modules do not tell."""

import numpy as np
import pytest
from oracles import build_small, graph_of, images_for
from scipy.interpolate import RegularGridInterpolator

from mipp.graph.latency import LatencyTable, WidthCurve, rising
from mipp.latency.clock import build_curves, fit_remainder
from mipp.latency.widths import parts_of


def random_curve(seed):
    rng = np.random.default_rng(seed)
    widths = (np.sort(rng.choice(np.arange(1, 90), n, replace=False)) for n in (5, 4))
    inputs, outputs = (tuple(map(int, side)) for side in widths)
    return WidthCurve(inputs, outputs, rng.random((5, 4)), elements=3)


def test_interpolation_is_that_of_scipy(seed):
    curve = random_curve(seed)
    twin = RegularGridInterpolator((curve.inputs, curve.outputs), curve.ms)
    for i in range(curve.inputs[0], curve.inputs[-1] + 1):
        for o in range(curve.outputs[0], curve.outputs[-1] + 1):
            assert curve.at(i, o) == pytest.approx(twin((i, o)).item(), abs=1e-12)


def test_time_beyond_the_grid_is_that_of_its_edge():
    curve = random_curve(0)
    assert curve.at(0, 0) == curve.ms[0, 0]
    assert curve.at(1000, 0) == curve.ms[-1, 0]
    assert curve.at(1000, 1000) == curve.ms[-1, -1]


def test_side_that_does_not_vary_has_one_entry():
    curve = WidthCurve((3,), (10, 20), np.array([[1.0, 2.0]]), elements=0)
    assert [curve.at(3, width) for width in (10, 15, 20)] == [1.0, 1.5, 2.0]


def test_falling_times_are_levelled():
    # least table above: 3 3 3, greatest below: 1 1 2
    assert rising(np.array([[3.0, 1.0, 2.0]])).tolist() == [[2.0, 2.0, 2.5]]
    assert rising(np.array([[3.0], [1.0], [2.0]])).tolist() == [[2.0], [2.0], [2.5]]


def test_levelled_times_rise_along_both_sides(seed):
    levelled = rising(np.random.default_rng(seed).random((6, 7)))
    assert np.diff(levelled, axis=0).min() >= 0
    assert np.diff(levelled, axis=1).min() >= 0


def test_times_that_rise_are_left():
    ms = np.add.outer(np.arange(4.0), np.arange(5.0) ** 2)
    assert np.array_equal(rising(ms), ms)


def counting_macs(name):
    """The graph with the table of a clock that shows a millisecond per million MACs."""

    def measure(part, inputs, outputs):
        cost = part.cost
        return 1e-6 * cost.macs * inputs * outputs / (cost.in_features * cost.out_features)

    parts = parts_of(build_small(name), graph_of(name), images_for(name, 2))
    return LatencyTable(build_curves(parts, measure))


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "lenet-300-100"])
def test_clock_that_counts_macs_predicts_the_macs(name, seed):
    graph, table = graph_of(name), counting_macs(name)
    rng = np.random.default_rng(seed)
    kept = {g: int(rng.integers(-(-w // 2), w + 1)) for g, w in graph.widths.items()}
    predicted = table.milliseconds(graph.features(kept))
    assert predicted == pytest.approx(1e-6 * graph.macs(kept), rel=1e-9)


def test_elements_are_those_that_the_modules_write():
    # LeNet-5 at 28 pixels, two images: 6 maps of 28 x 28, 16 of 10 x 10, 120 and 84; fc3 is fixed
    graph = graph_of("lenet5")
    kept = {"conv1": 3, "conv2": 8, "fc1": 120, "fc2": 1}
    table = LatencyTable(counting_macs("lenet5").curves, scale=0, per_element=1, constant=0.5)
    expected = 2 * (3 * 28 * 28 + 8 * 10 * 10 + 120 + 1) + 0.5
    assert table.milliseconds(graph.features(kept)) == pytest.approx(expected)


def whole(graph):
    return [{g: max(1, w * k // 8) for g, w in graph.widths.items()} for k in (8, 6, 4, 2)]


def times_of(graph, table, *, scale, per_element, constant):
    parts = [table.parts(graph.features(kept)) for kept in whole(graph)]
    return [scale * ms + per_element * n + constant for ms, n in parts]


def test_known_remainder_is_found():
    graph, table = graph_of("resnet20"), counting_macs("resnet20")
    times = times_of(graph, table, scale=1, per_element=2e-5, constant=4)
    found = fit_remainder(table, graph, whole(graph), times)
    assert found.curves == table.curves
    assert (found.scale, found.per_element, found.constant) == pytest.approx((1, 2e-5, 4))


def test_modules_that_take_longer_in_the_network_are_scaled():
    graph, table = graph_of("resnet20"), counting_macs("resnet20")
    times = times_of(graph, table, scale=1.5, per_element=2e-5, constant=4)
    found = fit_remainder(table, graph, whole(graph), times)
    for kept, ms in zip(whole(graph), times, strict=True):
        assert found.milliseconds(graph.features(kept)) == pytest.approx(ms, rel=0.02)


def test_remainder_is_never_negative():
    graph, table = graph_of("resnet20"), counting_macs("resnet20")
    times = times_of(graph, table, scale=0.8, per_element=0, constant=-1)
    found = fit_remainder(table, graph, whole(graph), times)
    assert min(found.scale, found.per_element, found.constant) >= 0


def test_modules_of_equal_shape_are_measured_once():
    measured = []

    def measure(part, inputs, outputs):
        measured.append((part.key(), inputs, outputs))
        return 1.0

    curves = build_curves(
        parts_of(build_small("resnet20"), graph_of("resnet20"), images_for("resnet20", 2)), measure
    )
    assert len(measured) == len(set(measured))
    assert curves["layer1.1.conv1"] is curves["layer1.2.conv1"]
    assert curves["layer1.1.conv1"] is not curves["layer2.1.conv1"]
    written = LatencyTable(curves).to_json()["curves"]
    assert sorted(m for c in written for m in c["modules"]) == sorted(curves)
