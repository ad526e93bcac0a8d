"""One contract for every criterion, and for each an oracle of its own."""

import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracles import (
    build_own,
    build_small,
    graph_of,
    images_for,
    own_images,
    small_resnet,
    small_vit,
)
from torch import nn

from mipp.budget import parse_budget
from mipp.config import DataConfig
from mipp.criteria import CRITERIA, CriterionInput
from mipp.data import load_data
from mipp.errors import DataError
from mipp.graph import build_graph
from mipp.models import ModelSpec, build_model
from mipp.selection.by_scores import select_by_criterion
from mipp.selection.spending import fits
from mipp.settings import Criterion
from mipp.testing import check_criterion


def labelled(images, classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (len(images),), generator=generator)
    return lambda: zip(images.split(4), labels.split(4), strict=True)


def resnet_input(seed=0):
    images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(seed)).double()
    model = small_resnet()
    return CriterionInput(model, build_graph(model, images[:1]), labelled(images, 10, seed), seed)


def network_input(name):
    images = images_for("lenet5" if name == "lenet5" else "resnet20", 4).float()
    return CriterionInput(network(name), followed(name), labelled(images, 10), 0)


def network(name):
    return small_vit().float() if name == "vit" else build_small(name).float()


@functools.cache
def graph_of_own(name):
    return build_graph(build_own(name), own_images(1))


@functools.cache
def followed(name):
    images = images_for("lenet5" if name == "lenet5" else "resnet20", 1).float()
    return build_graph(network(name), images)


def own_input(model, shape=None, seed=0):
    images = own_images(8, seed) if shape is None else torch.randn(8, *shape).double()
    graph = build_graph(model, images[:1])
    return CriterionInput(model, graph, labelled(images, 3, seed), seed)


SMALL = ("obs",)  # holds a Hessian of all weights
OF_ANY_SIZE = [name for name in CRITERIA if name not in SMALL]


@pytest.fixture(params=[*OF_ANY_SIZE, *(pytest.param(n, marks=pytest.mark.slow) for n in SMALL)])
def name(request):
    return request.param


@pytest.fixture
def criterion(name):
    return CRITERIA[name]


@pytest.mark.parametrize(
    "network", ["lenet5", *(pytest.param(n, marks=pytest.mark.slow) for n in ("resnet20", "vit"))]
)
@pytest.mark.parametrize("name", OF_ANY_SIZE)
def test_every_unit_has_one_finite_score_and_budgets_are_nested(name, network):
    given = network_input(network)
    scores = CRITERIA[name](given)
    assert {group: len(values) for group, values in scores.items()} == given.graph.widths
    for values in scores.values():
        assert values.dtype == np.float64
        assert np.isfinite(values).all()
        full_rank = name == "hrank" and network != "resnet20"  # of maps of noise
        assert full_rank or np.ptp(values) > 0
    for scope in ("global", "layer"):
        previous = {group: np.arange(width) for group, width in given.graph.widths.items()}
        for text in ("ratio:0.2", "ratio:0.4", "ratio:0.6"):
            kept = kept_under(parse_budget(text), scores, given.graph, scope)
            assert all(np.isin(units, previous[group]).all() for group, units in kept.items())
            previous = kept


def kept_under(budget, scores, graph, scope):
    kept = select_by_criterion(graph, scores, Criterion("random", scope), budget).selection.kept
    assert fits(graph, {group: len(units) for group, units in kept.items()}, budget)
    return kept


WITHOUT_LABELS = (
    "aofp", "bn-scale", "chip", "fpgm", "he2017", "hrank", "l1", "l2", "mifs", "mrmr", "pfp",
    "random", "sage", "synflow", "thinet",
)  # fmt: skip
DRAWN = ("ecoflap", "random", "sage", "variational")
ONE_BY_ONE = ("obd", "woodfisher", "eigendamage", "sosp-i")  # a pass for every image
TRAINED = (
    "dcp", "greg-1", "greg-2", "imp-rewind", "increg", "slimming", "srp", "ssl", "tpp",
    "variational",
)  # fmt: skip


def test_every_criterion_keeps_the_contract(name, criterion):
    labels = "unused" if name in WITHOUT_LABELS else "needed"
    check_criterion(criterion, labels, "drawn" if name in DRAWN else "fixed")


@pytest.mark.parametrize(
    "own", ["dense_blocks", "depthwise", "tied_weights", "tokens", "transposed_branch"]
)
def test_units_of_own_networks_have_scores(criterion, own):
    given = CriterionInput(build_own(own), graph_of_own(own), labelled(own_images(8), 3), 0)
    for values in criterion(given).values():
        assert np.isfinite(values).all()
        assert (values != 0).any()


def test_units_of_a_one_dimensional_convolution_have_scores(criterion):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3)).double()
    scores = criterion(own_input(model, (3, 8)))
    assert (scores["0"] != 0).any()


def test_l1_is_the_sum_of_absolute_weights(seed):
    model = build_small("lenet5", seed=seed)
    given = CriterionInput(model, graph_of("lenet5"), list, seed)
    for group, scores in CRITERIA["l1"](given).items():
        weights = model.get_submodule(group).weight.detach().numpy()
        expected = np.abs(weights).sum(axis=tuple(range(1, weights.ndim)))
        np.testing.assert_allclose(scores, expected, rtol=1e-12)


def test_l1_of_a_stream_adds_its_producers_up(seed):
    model = build_small("resnet20", seed=seed)
    given = CriterionInput(model, graph_of("resnet20"), list, seed)
    producers = ["conv1", *(f"layer1.{block}.conv2" for block in range(3))]
    weights = [model.get_submodule(name).weight.detach().numpy() for name in producers]
    expected = sum(np.abs(weight).sum((1, 2, 3)) for weight in weights)
    np.testing.assert_allclose(CRITERIA["l1"](given)["conv1"], expected, rtol=1e-12)


def slopes(model, layer, images, labels, step=1e-5):
    """Change of the loss per relative change of each unit's weights, by central differences."""
    weight, found = model.get_submodule(layer).weight, []
    for unit in range(weight.shape[0]):
        losses = []
        for factor in (1 + step, 1 - step):
            kept = weight[unit].clone()
            weight[unit] *= factor
            losses.append(float(F.cross_entropy(model(images), labels)))
            weight[unit] = kept
        found.append((losses[0] - losses[1]) / (2 * step))
    return np.array(found)


def test_taylor_matches_finite_differences(seed):
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 3, 3), nn.Flatten(), nn.Linear(48, 3)
    given = own_input(nn.Sequential(*layers).double(), seed=seed)
    scores = CRITERIA["taylor"](given)
    images, labels = (torch.cat(parts) for parts in zip(*given.batches(), strict=True))
    with torch.no_grad():
        for group in ("0", "2"):
            expected = slopes(given.model, group, images, labels) ** 2
            np.testing.assert_allclose(scores[group], expected, rtol=1e-4)


@pytest.fixture(scope="module")
def digits():
    """LeNet-5 as it is drawn, and 600 digits in batches of a size."""
    split = load_data(DataConfig(calibration=600), seed=0, channels=1, size=12).calibration
    model = build_model(ModelSpec("lenet5", classes=10, channels=1, size=12), seed=0).eval()
    images, labels = next(iter(split.batches(600)))
    graph = build_graph(model, images[:1])

    def in_batches_of(size):
        batches = list(zip(images.split(size), labels.split(size), strict=True))
        return CriterionInput(model, graph, lambda: batches, 0)

    return in_batches_of


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[pytest.mark.slow] * (n in (*TRAINED, *ONE_BY_ONE, "sage")))
        for n in OF_ANY_SIZE
    ],
)
def test_size_of_the_batches_changes_no_score(criterion, digits):
    """Up to rounding in float32: by less than 1e-5 of the largest score."""
    expected = criterion(digits(256))
    for size in (32, 100):
        given = digits(size)
        scores = criterion(given)
        largest = max(np.abs(values).max() for values in expected.values())
        for group, values in scores.items():
            np.testing.assert_allclose(values, expected[group], rtol=0, atol=1e-5 * largest)
        for scope in ("global", "layer"):
            kept, before = (
                kept_under(parse_budget("macs:0.5"), found, given.graph, scope)
                for found in (scores, expected)
            )
            assert all(np.array_equal(kept[group], before[group]) for group in kept)


def test_taylor_squares_the_change_of_256_images_at_a_time(digits):
    given = digits(600)
    ((images, labels),) = given.batches()
    weight, expected = given.model.conv1.weight, np.zeros(given.graph.widths["conv1"])
    for x, y in zip(images.split(256), labels.split(256), strict=True):
        (slope,) = torch.autograd.grad(F.cross_entropy(given.model(x), y), weight)
        expected += (slope * weight).detach().flatten(1).sum(1).square().numpy()
    np.testing.assert_allclose(CRITERIA["taylor"](given)["conv1"], expected, rtol=1e-5)


# Losses


def regression(loss=None):
    """A network of one output, and what it is to say."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)).double()
    images = torch.randn(20, 4).double()
    labels = images.sum(1, keepdim=True)
    batches = list(zip(images.split(8), labels.split(8), strict=True))
    return CriterionInput(model, build_graph(model, images[:1]), lambda: batches, 0, loss=loss)


BY_LOSS = (
    "ccp", "dcp", "eigendamage", "grasp", "grasp-iterative", "greg-1", "greg-2", "imp",
    "imp-rewind", "increg", "isometry", "obd", "obs", "prospr", "slimming", "snip",
    "snip-iterative", "sosp-h", "sosp-i", "srp", "ssl", "taylor", "taylor-2017", "tpp",
    "variational", "woodfisher",
)  # fmt: skip


@pytest.mark.parametrize("name", BY_LOSS)
def test_the_loss_given_is_the_loss_scored_by(name):
    """Losses with other minima give other scores, or at least another order."""
    scores = CRITERIA[name](regression(F.mse_loss))["0"]
    assert np.ptp(scores) > 0
    other = [
        CRITERIA[name](regression(lambda out, wanted, k=k: (out - k * wanted.cos()).abs().mean()))
        for k in (-5, 5)
    ]
    assert any(not np.allclose(scores, found["0"]) for found in other)


@pytest.mark.parametrize(
    ("name", "power"),
    [
        *(("snip", 1), ("sosp-h", 1), ("obs", 1), ("obd", 2), ("taylor", 2), ("woodfisher", 2)),
        ("eigendamage", 2),
    ],
)
def test_scores_grow_with_the_loss(name, power):
    scores = CRITERIA[name](regression(F.mse_loss))["0"]
    tenfold = CRITERIA[name](regression(lambda out, wanted: 10 * F.mse_loss(out, wanted)))["0"]
    np.testing.assert_allclose(tenfold, 10**power * scores, rtol=1e-6)


def test_snip_of_a_users_loss_matches_finite_differences():
    given = regression(F.mse_loss)
    images = torch.cat([x for x, _ in given.batches()])
    labels = torch.cat([y for _, y in given.batches()])
    expected, weight = [], given.model[2].weight
    with torch.no_grad():
        for unit in range(6):
            losses, kept = [], weight[:, unit].clone()
            for factor in (1 + 1e-5, 1 - 1e-5):
                weight[:, unit] = kept * factor
                losses.append(float(F.mse_loss(given.model(images), labels)))
            weight[:, unit] = kept
            expected.append(abs(losses[0] - losses[1]) / 2e-5)
    np.testing.assert_allclose(CRITERIA["snip"](given)["0"], expected, rtol=1e-6)


@pytest.mark.parametrize("name", [*BY_LOSS, "ecoflap"])
def test_cross_entropy_is_refused_where_it_does_not_fit(name):
    given = regression()
    before = [parameter.clone() for parameter in given.model.parameters()]
    given.model.requires_grad_(False)
    batches = [(x, (y > 0).long()[:, 0]) for x, y in given.batches()]
    given = CriterionInput(given.model, given.graph, lambda: batches, 0)
    with pytest.raises(DataError, match=r"(?s)outputs \(\d+, 1\) and labels.*int64.*pass loss="):
        CRITERIA[name](given)
    assert all(map(torch.equal, given.model.parameters(), before))
    assert not any(parameter.requires_grad for parameter in given.model.parameters())


def test_random_scores_depend_on_the_seed_alone():
    given = resnet_input(seed=0)
    graph, model = given.graph, given.model
    same, other = (CRITERIA["random"](CriterionInput(model, graph, list, seed)) for seed in (0, 1))
    expected = CRITERIA["random"](given)
    for group in graph.groups:
        assert np.array_equal(same[group], expected[group])
        assert not np.array_equal(same[group], other[group])
