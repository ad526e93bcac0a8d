"""Criteria on weights and activations, each beside a slow twin, a hand count or Torch-Pruning."""

import itertools

import numpy as np
import pytest
import torch
import torch_pruning as tp
from oracles import (
    build_small,
    graph_of,
    images_for,
    normal_nats,
    small_vit,
    unfolded_rows,
)
from torch import nn

import mipp
from benchmarks.rivals.torch_pruning import trace_dependencies
from mipp.criteria import CRITERIA, CriterionInput
from mipp.criteria.shared.contributions import contribution_grams
from mipp.criteria.shared.maps import maps_by_group
from mipp.errors import ActivationError
from mipp.graph import build_graph

OWN = ("bn-scale", "chip", "fpgm", "he2017", "hrank", "l2", "mifs", "mrmr", "thinet")


def given_for(model, images, seed=0, size=4):
    """What a criterion gets; labels that none of these looks at."""
    batches = [(part, torch.zeros(len(part)).long()) for part in images.split(size)]
    return CriterionInput(model, build_graph(model, images[:1]), lambda: iter(batches), seed)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def linear_chain(*weights):
    """Linear layers with these weights and nothing between them."""
    layers = [nn.Linear(len(w[0]), len(w), bias=False).double() for w in weights]
    with torch.no_grad():
        for layer, w in zip(layers, weights, strict=True):
            layer.weight.copy_(torch.tensor(w))
    return nn.Sequential(*layers)


def small_chain(seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.Tanh(),
        nn.Conv2d(4, 5, 3, padding=1),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(180, 3),
    ).double()


def order_of(scores):
    """Channels from the lowest score to the highest."""
    return [int(c) for c in np.argsort(scores, kind="stable")]


@pytest.fixture(scope="module")
def vit():
    return given_for(small_vit(), normal(6, 3, 32, 32))


@pytest.mark.parametrize("name", OWN)
def test_units_of_a_transformer_are_told_apart(vit, name):
    for group, scores in CRITERIA[name](vit).items():
        assert np.isfinite(scores).all()
        assert name == "hrank" or np.ptp(scores) > 0, group


@pytest.mark.parametrize("name", OWN)
def test_size_of_batches_changes_no_order(name, seed):
    images = normal(12, 2, 8, 8, seed=seed)
    whole, parts = (
        CRITERIA[name](given_for(small_chain(seed), images, size=size)) for size in (12, 5)
    )
    for group, scores in whole.items():
        np.testing.assert_allclose(parts[group], scores, rtol=1e-9, atol=1e-12)


# Weights, beside Torch-Pruning


def rivals(model, importance, keep):
    """Torch-Pruning's scores by group of ours, over those of its coupled layers that `keep` has."""
    graph = graph_of("resnet20")
    dependencies, traced = trace_dependencies(model, images_for("resnet20", 1))
    found = {}
    for name, group in graph.groups.items():
        root = traced.get_submodule(name)
        every = list(range(group.width))
        coupled = dependencies.get_pruning_group(root, tp.prune_conv_out_channels, every)
        coupled._group = [item for item in coupled._group if keep(item.dep.pruning_fn)]
        found[name] = importance(coupled).numpy()
    return found


def makes(function):
    return function in (tp.prune_conv_out_channels, tp.prune_linear_out_channels)


def assert_agree(model, name, expected):
    scores = CRITERIA[name](CriterionInput(model, graph_of("resnet20"), list, 0))
    for group, values in scores.items():
        np.testing.assert_allclose(values, expected[group], rtol=1e-5)  # theirs is in float32


def test_l2_is_that_of_torch_pruning_without_consumers_and_norms(seed):
    model = build_small("resnet20", seed=seed)
    magnitude = tp.importance.GroupMagnitudeImportance(2, group_reduction="sum", normalizer=None)
    squares = rivals(model, magnitude, makes)
    assert_agree(model, "l2", {group: np.sqrt(values) for group, values in squares.items()})


def test_torch_pruning_counts_what_reads_a_unit_and_l2_does_not():
    model = linear_chain([[3.0, 0.0], [0.0, 1.0]], [[1.0, 4.0]])
    assert CRITERIA["l2"](given_for(model, normal(4, 2)))["0"].tolist() == [3, 1]
    dependencies = tp.DependencyGraph().build_dependency(model, normal(1, 2))
    group = dependencies.get_pruning_group(model[0], tp.prune_linear_out_channels, [0, 1])
    magnitude = tp.importance.GroupMagnitudeImportance(2, group_reduction="sum", normalizer=None)
    assert magnitude(group).tolist() == [3**2 + 1**2, 1**2 + 4**2]


def test_bn_scale_is_that_of_torch_pruning_without_its_normaliser(seed):
    model = build_small("resnet20", seed=seed)
    importance = tp.importance.BNScaleImportance(normalizer=None)
    assert_agree(model, "bn-scale", rivals(model, importance, lambda function: True))


def test_fpgm_is_that_of_torch_pruning_where_no_weight_is_negative(seed):
    model = build_small("resnet20", seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    importance = tp.importance.FPGMImportance(1)
    assert_agree(model, "fpgm", rivals(model, importance, makes))


def test_fpgm_tells_a_filter_from_its_negative_as_torch_pruning_does_not():
    model = linear_chain([[3.0, 4.0], [-3.0, -4.0]], [[1.0, 1.0]])
    given = given_for(model, normal(4, 2))
    assert CRITERIA["fpgm"](given)["0"].tolist() == [1, 1]
    dependencies = tp.DependencyGraph().build_dependency(model, normal(1, 2))
    group = dependencies.get_pruning_group(model[0], tp.prune_linear_out_channels, [0, 1])
    group._group = [item for item in group._group if makes(item.dep.pruning_fn)]
    assert tp.importance.FPGMImportance(normalizer=None)(group).tolist() == [0, 0]


def test_fpgm_matches_distances_in_numpy(seed):
    given = given_for(small_chain(seed), normal(4, 2, 8, 8))
    for group, scores in CRITERIA["fpgm"](given).items():
        filters = given.model.get_submodule(group).weight.detach().numpy()
        flat = filters.reshape(len(filters), -1)
        distances = np.linalg.norm(flat[:, None] - flat[None], axis=2)
        expected = distances.sum(1) / distances.sum(1).mean()
        np.testing.assert_allclose(scores, expected, rtol=1e-9)


def test_l1_l2_and_fpgm_each_drop_another_filter():
    model = linear_chain([[3.0, 0.0], [1.6, 1.6], [3.1, 0.1], [3.1, 0.2], [-4.0, 0.0]], [[1.0] * 5])
    given = given_for(model, normal(4, 2))
    lowest = {name: order_of(CRITERIA[name](given)["0"])[0] for name in ("l1", "l2", "fpgm")}
    assert lowest == {"l1": 0, "l2": 1, "fpgm": 2}


def with_norms(model, images):
    """The same function with a batch norm behind each inner layer that changes nothing."""
    layers = []
    for layer in model:
        images = layer(images)
        layers.append(layer)
        if isinstance(layer, nn.Conv2d):
            norm = nn.BatchNorm2d(layer.out_channels).double()
            norm.bias.copy_(images.mean((0, 2, 3)))
            norm.running_mean.copy_(norm.bias)
            norm.weight.copy_(images.std((0, 2, 3), correction=0))
            norm.running_var.copy_(norm.weight.square() - norm.eps)
            layers.append(norm)
    return nn.Sequential(*layers).eval()


@torch.no_grad()
def test_bare_units_have_the_factor_of_a_norm_that_changes_nothing(seed):
    model, images = small_chain(seed), normal(12, 2, 8, 8, seed=seed)
    normed = with_norms(model, images)
    torch.testing.assert_close(normed(images), model(images))
    bare, factors = (CRITERIA["bn-scale"](given_for(net, images)) for net in (model, normed))
    np.testing.assert_allclose(bare["0"], factors["0"], rtol=1e-9)
    np.testing.assert_allclose(bare["2"], factors["3"], rtol=1e-9)


def test_bn_scale_and_l1_differ_where_the_factor_undoes_the_weights():
    model = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)).double().eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 1.0], [9.0, 9.0]])[..., None, None])
        model[1].weight.copy_(torch.tensor([-2.0, 1.0]))
    given = given_for(model, normal(4, 2, 3, 3))
    assert CRITERIA["bn-scale"](given)["0"].tolist() == [2, 1]
    assert CRITERIA["l1"](given)["0"].tolist() == [2, 18]


# Contributions to the next layer


def contributions(model, images):
    """By group of `small_chain`, each channel's part of each output, (n, channels, outputs)."""
    first = model[:2](images)
    second = model[2:4](first)
    parts = {}
    weight = model[2].weight.flatten(2)
    parts["0"] = torch.einsum("ncb,jcb->ncj", unfolded_rows(model[2], first), weight)
    weight = model[5].weight.view(3, 5, -1)
    parts["2"] = torch.einsum("ncb,jcb->ncj", second.flatten(2), weight)
    return {group: part.detach().numpy() for group, part in parts.items()}


@pytest.fixture
def chain(seed):
    model, images = small_chain(seed), normal(16, 2, 8, 8, seed=seed)
    return given_for(model, images), contributions(model, images)


def test_contributions_are_those_of_every_position(chain):
    given, parts = chain
    for group, gram in contribution_grams(given).items():
        part = parts[group]
        expected = np.einsum("ncj,ndj->cd", part, part) / len(part)
        np.testing.assert_allclose(gram, expected, rtol=1e-9)


@pytest.mark.parametrize("name", ["resnet20", "vit"])
def test_contributions_add_up_to_what_consumers_put_out(name, vit):
    if name == "resnet20":
        vit = given_for(build_small(name), images_for(name, 2))
    total = dict.fromkeys(vit.graph.groups, 0.0)
    rows = mipp.activations.Sampling(8192, 2 if name == "resnet20" else 6, 0)
    images = (x for x, _ in vit.batches())
    squares = {pair.name: [] for pair in vit.graph.pairs}
    for batch in mipp.activations.capture_rows(vit.model, vit.graph.pairs, images, rows):
        for pair, (_, y) in batch.items():
            squares[pair].append(y)
    for pair in vit.graph.pairs:
        module = vit.model.get_submodule(pair.consumer)
        bias = getattr(module, "in_proj_bias", getattr(module, "bias", None))
        whole = torch.cat(squares[pair.name]) - (0 if bias is None else bias.detach())
        total[pair.group] += float(whole.square().sum(1).mean())
    for group, gram in contribution_grams(vit).items():
        assert gram.sum() == pytest.approx(total[group], rel=1e-9)


def greedy_twin(part):
    """ThiNet's algorithm 1 as it is written: every candidate's sum is formed and squared."""
    left, there = [], list(range(part.shape[1]))
    while there:
        errors = {c: (part[:, [*left, c]].sum(1) ** 2).sum() for c in there}
        left.append(min(there, key=errors.get))
        there.remove(left[-1])
    return left


def test_thinet_matches_the_slow_greedy(chain):
    given, parts = chain
    for group, scores in CRITERIA["thinet"](given).items():
        assert order_of(scores) == greedy_twin(parts[group])
        assert sorted(scores) == pytest.approx([(i + 1) / len(scores) for i in range(len(scores))])


def lasso_by_signs(part, penalty):
    """Factors of the least squares with an L1 penalty: every pattern of signs is tried.

    Minimises 1/2 mean |y - z f|^2 + penalty |f|; within a pattern that is a linear system.
    """
    flat = part.transpose(0, 2, 1).reshape(-1, part.shape[1])
    gram = flat.T @ flat / len(part)
    wanted = gram.sum(1)
    best = (0.0, np.zeros(len(gram)))
    for signs in itertools.product((-1, 0, 1), repeat=len(gram)):
        at, signs = np.flatnonzero(signs), np.array(signs)
        factors = np.zeros(len(gram))
        if len(at):
            factors[at] = np.linalg.solve(gram[np.ix_(at, at)], wanted[at] - penalty * signs[at])
        if (np.sign(factors) == signs).all():
            cost = factors @ gram @ factors / 2 - wanted @ factors + penalty * abs(factors).sum()
            best = min(best, (cost, factors), key=lambda found: found[0])
    return best[1]


def test_he2017_matches_a_lasso_by_brute_force(chain):
    given, parts = chain
    part = parts["0"]
    flat = part.transpose(0, 2, 1).reshape(-1, part.shape[1])
    top = np.abs(flat.T @ flat.sum(1)).max() / len(part)
    grid = top * np.geomspace(1, 1e-3, 300)
    present = np.array([lasso_by_signs(part, penalty) != 0 for penalty in grid])
    entered = present.argmax(0)
    assert present.any(0).all()
    leaving = entered[order_of(CRITERIA["he2017"](given)["0"])]
    assert leaving.tolist() == sorted(entered, reverse=True)
    assert len(set(entered)) >= 3  # of 4: the grid tells nearly all apart


def test_he2017_lets_a_copy_leave_before_what_it_copies():
    model = linear_chain(np.eye(3)[[0, 0, 1, 2]].tolist(), [[2.0, 1.0, 1.0, 0.5]])
    scores = CRITERIA["he2017"](given_for(model, normal(64, 3)))["0"]
    assert order_of(scores) == [1, 3, 2, 0]


@pytest.mark.parametrize("name", ["thinet", "he2017"])
def test_units_that_put_nothing_out_leave_first(name):
    model = linear_chain([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [0.0, 0.0]], [[1.0] * 4])
    assert order_of(CRITERIA[name](given_for(model, normal(64, 2)))["0"])[:2] == [1, 3]
    silent = linear_chain([[0.0, 0.0], [0.0, 0.0]], [[1.0, 1.0]])
    assert order_of(CRITERIA[name](given_for(silent, normal(64, 2)))["0"]) == [0, 1]


def test_thinet_drops_what_is_small_and_he2017_what_the_others_can_stand_in_for():
    model = linear_chain([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0, 0.9]])
    given = given_for(model, normal(512, 2))
    assert order_of(CRITERIA["thinet"](given)["0"])[0] == 2
    assert order_of(CRITERIA["he2017"](given)["0"])[0] in (0, 1)


def test_thinet_and_l1_differ_where_the_next_layer_undoes_the_weights():
    model = linear_chain([[9.0, 0.0], [0.0, 1.0]], [[0.1, 1.0]])
    given = given_for(model, normal(512, 2))
    assert order_of(CRITERIA["thinet"](given)["0"]) == [0, 1]
    assert order_of(CRITERIA["l1"](given)["0"]) == [1, 0]


# Feature maps


@torch.no_grad()
def test_maps_are_what_the_next_layer_reads(seed):
    model, images = build_small("lenet5", seed=seed), images_for("lenet5", 5, seed)
    caught = {}
    handles = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda module, inputs, name=name: caught.update({name: inputs[0]})
        )
        for name in ("conv2", "fc1")
    ]
    model(images)
    for handle in handles:
        handle.remove()
    found = dict(maps_by_group(given_for(model, images), 5))
    assert torch.equal(found["conv1"], caught["conv2"])
    side = round((caught["fc1"].shape[1] / 16) ** 0.5)
    assert side > 1
    assert torch.equal(found["conv2"], caught["fc1"].view(5, 16, side, side))
    assert found["fc1"].shape == (5, found["fc1"].shape[1], 1, 1)


def test_maps_of_a_transformer_leave_out_the_class_token(vit):
    shapes = {}
    for group, maps in maps_by_group(vit, 3):
        shapes.setdefault(group.rpartition(".")[2], set()).add(tuple(maps.shape[2:]))
    assert shapes["0"] == {(4, 4)}  # hidden units of the perceptron, 16 patches
    assert (17, 8) in shapes["self_attention"]  # tokens by features of a head


def test_hrank_counts_the_ranks_of_maps():
    """Maps are sums of a rank 1 and a rank 3 image: ranks 1, 3, 4 and 0 of 6."""
    low = torch.stack([torch.outer(normal(6, seed=s), normal(6, seed=s + 9)) for s in range(3)])
    high = torch.stack([normal(6, 3, seed=s + 20) @ normal(3, 6, seed=s + 30) for s in range(3)])
    model = nn.Sequential(nn.Conv2d(2, 4, 1, bias=False), nn.Conv2d(4, 2, 1)).double()
    mix = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0], [0.0, 0.0]])
    model[0].weight.data.copy_(mix[..., None, None])
    scores = CRITERIA["hrank"](given_for(model, torch.stack([low, high], 1)))
    assert scores["0"].tolist() == pytest.approx([1 / 6, 3 / 6, 4 / 6, 0])


@torch.no_grad()
def test_hrank_matches_numpy_on_lenet(seed):
    model, images = build_small("lenet5", seed=seed), images_for("lenet5", 5, seed)
    given = given_for(model, images)
    scores = CRITERIA["hrank"](given)
    for group, maps in maps_by_group(given, 5):
        ranks = [[np.linalg.matrix_rank(m) for m in image] for image in maps.numpy()]
        expected = np.mean(ranks, axis=0) / min(maps.shape[2:])
        np.testing.assert_allclose(scores[group], expected, rtol=1e-12)


def test_hrank_of_a_vector_is_the_share_of_images_it_is_active_on(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2)).double()
    images = normal(50, 3, seed=seed)
    expected = (model[0](images) > 0).double().mean(0).tolist()
    assert CRITERIA["hrank"](given_for(model, images))["0"].tolist() == pytest.approx(expected)


def independence_twin(rows):
    """Loss of nuclear norm with each row, by singular values."""
    whole = np.linalg.norm(rows, "nuc")
    keep = 1 - np.eye(len(rows))
    return whole, np.array([whole - np.linalg.norm(rows * k[:, None], "nuc") for k in keep])


@torch.no_grad()
def test_chip_matches_singular_values(seed):
    model, images = build_small("lenet5", seed=seed), images_for("lenet5", 4, seed)
    first = model.get_submodule("conv2")
    given = given_for(model, images)
    scores = CRITERIA["chip"](given)
    assert first.out_channels == len(scores["conv2"])
    wide = 0
    for group, maps in maps_by_group(given, 4):
        rows = maps.flatten(2).numpy()
        rows = rows if rows.shape[2] > 1 else rows.transpose(2, 1, 0)
        wide += rows.shape[1] < rows.shape[2]
        wholes, losses = zip(*map(independence_twin, rows), strict=True)
        np.testing.assert_allclose(scores[group], sum(losses) / sum(wholes), rtol=1e-5, atol=1e-8)
    assert 0 < wide < len(scores)  # more pixels than units, and fewer


def test_hrank_and_chip_differ_on_copies_of_a_full_map():
    """Units 0 and 1 are copies of rank 6, unit 2 has rank 1 and is like no other."""
    full = torch.stack([normal(6, 6, seed=s) for s in range(4)])
    flat = torch.stack([torch.outer(normal(6, seed=s), normal(6, seed=s + 9)) for s in range(4)])
    model = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), nn.Conv2d(3, 2, 1)).double()
    mix = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    model[0].weight.data.copy_(mix[..., None, None])
    given = given_for(model, torch.stack([full, flat], 1))
    assert int(np.argmin(CRITERIA["hrank"](given)["0"])) == 2
    assert int(np.argmax(CRITERIA["chip"](given)["0"])) == 2


@pytest.mark.parametrize("name", ["hrank", "chip", "bn-scale"])
def test_activations_that_are_no_numbers_are_refused_by_layer(name):
    model = small_chain(0)
    model[0].bias.data[1] = torch.nan
    with pytest.raises(ActivationError, match=r"layer '[02]' has NaN"):
        CRITERIA[name](given_for(model, normal(4, 2, 8, 8)))


# Information


def noisy_covariance(x, y):
    """Of all features with MIPP's default resolution 0.3 and ridge 0.001."""
    covariance = np.cov(np.column_stack([x, y]).T, bias=True)
    variances = np.diag(covariance)
    return covariance + np.diag(0.3 * variances + 1e-3 * variances.mean())


def taking_twin(x, y, discount):
    """Channels in the order of taking, all informations computed anew at every step."""
    block, count = x.shape[2], x.shape[1]
    covariance = noisy_covariance(x.reshape(len(x), -1), y)
    of = np.arange(count * block).reshape(count, block).tolist()
    targets = list(range(count * block, len(covariance)))

    def nats(a, b):
        return normal_nats(covariance[np.ix_(a + b, a + b)], len(a))

    taken, there = [], list(range(count))
    while there:
        worth = {
            c: nats(of[c], targets) - discount([nats(of[c], of[t]) for t in taken]) for c in there
        }
        taken.append(max(there, key=worth.get))
        there.remove(taken[-1])
    return taken


DISCOUNTS = {
    "mrmr": lambda shared: float(np.mean(shared)) if shared else 0.0,
    "mifs": lambda shared: 0.5 * float(np.sum(shared)),
}


@pytest.mark.parametrize("name", DISCOUNTS)
@torch.no_grad()
def test_taking_matches_the_exhaustive_greedy(name, seed):
    model, images = small_chain(seed), normal(32, 2, 8, 8, seed=seed)
    rows = unfolded_rows(model[2], model[:2](images)).numpy()
    made = model[2](model[:2](images)).permute(0, 2, 3, 1).flatten(0, 2).numpy()
    scores = CRITERIA[name](given_for(model, images, size=16))["0"]
    assert order_of(-scores) == taking_twin(rows, made, DISCOUNTS[name])


def test_mrmr_and_mifs_differ_where_redundancy_adds_up():
    """Unit 4 shares a little with each of 0 to 3, which a sum minds more than a mean."""
    first = np.eye(6)
    first[4, :4] = 0.5
    second = np.zeros((5, 6))
    second[range(5), range(5)] = 1.0, 1.0, 1.0, 1.0, 0.5
    second[4, 5] = 0.7
    model, images = linear_chain(first.tolist(), second.tolist()), normal(4096, 6)
    given = given_for(model, images, size=4096)
    orders = {name: order_of(-CRITERIA[name](given)["0"]) for name in DISCOUNTS}
    x = images.numpy() @ first.T
    for name, order in orders.items():
        assert order == taking_twin(x[:, :, None], x @ second.T, DISCOUNTS[name])
    assert orders["mrmr"][-2:] == [4, 5]
    assert orders["mifs"][-2:] == [5, 4]


def test_information_without_the_conditional_test_takes_a_noisy_sum():
    """The output is the sum of units 0 and 1; unit 2, its noisy copy, tells most alone.

    Units 0 and 1 together tell everything, so that unit 2 adds nothing and TERC drops it.
    """
    model = linear_chain([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 1.0]], [[1.0, 1.0, 0.0]])
    batches = [(normal(4096, 3), torch.arange(4096) % 2)]
    kept = {
        method: mipp.prune(model, batches, "ratio:0.33", method=method).selection.kept["0"]
        for method in ("mipp", "mrmr", "mifs")
    }
    assert kept["mipp"].tolist() == [0, 1]
    assert 2 in kept["mrmr"]
    assert 2 in kept["mifs"]
