"""Criteria by gradients and by rounds, each beside finite differences or an explicit matrix."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch_pruning as tp
from oracles import (
    build_own,
    build_small,
    dropped_channels_zeroed,
    graph_of,
    images_for,
    own_images,
    random_selection,
    small_resnet,
)
from torch import nn

from benchmarks.rivals.torch_pruning import accumulate_squares, trace_dependencies
from mipp.criteria import CRITERIA, CriterionInput
from mipp.criteria.imp import DESCENT, train_gated
from mipp.criteria.prospr import RATE as STEP
from mipp.criteria.prospr import STEPS
from mipp.criteria.shared.elimination import score_by_elimination, stops
from mipp.criteria.shared.unit_gates import gated, gates_of, run_with, tensors_of
from mipp.criteria.synflow import synaptic_flow
from mipp.cut import apply_selection
from mipp.graph import build_graph
from mipp.selection.selection import Selection


def given_for(model, images, labels, size=5):
    batches = list(zip(images.split(size), labels.split(size), strict=True))
    return CriterionInput(model, build_graph(model, images[:1]), lambda: iter(batches), 0)


def small_chain(seed):
    torch.manual_seed(seed)
    layers = nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Conv2d(4, 3, 3), nn.Tanh()
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(12, 3)).double()


@pytest.fixture
def chain(seed):
    """Images that fill two batches of different sizes."""
    model = small_chain(seed)
    return given_for(model, torch.randn(8, 2, 6, 6).double(), torch.randint(3, (8,)))


def linear_chain(*weights):
    """Linear layers with these weights and ReLU between."""
    layers = []
    for w in weights:
        layer = nn.Linear(len(w[0]), len(w), bias=False).double()
        layer.weight.data = torch.tensor(w).double()
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def order_of(scores):
    return [int(c) for c in np.argsort(scores, kind="stable")]


def joined(given):
    images, labels = zip(*given.batches(), strict=True)
    return torch.cat(images), torch.cat(labels)


def alive_but(graph, **gone):
    alive = {name: np.ones(width, bool) for name, width in graph.widths.items()}
    for name, units in gone.items():
        alive[name][units] = False
    return alive


# Gates


@torch.no_grad()
@pytest.mark.parametrize("name", ["lenet5", "resnet20", "dense_blocks", "depthwise"])
def test_closed_gates_are_dropped_channels(name, seed):
    known = name in ("lenet5", "resnet20")
    model = build_small(name) if known else build_own(name).double().eval()
    images = images_for(name, 2) if known else own_images(2)
    graph = build_graph(model, images[:1])
    selection = random_selection(graph, seed)
    given = CriterionInput(model, graph, list, 0)
    alive = alive_but(graph, **{group: selection.dropped(group) for group in graph.groups})
    found = run_with(model, gated(model, graph, gates_of(given, alive), tensors_of(model)), images)
    with dropped_channels_zeroed(model, graph, selection):
        expected = model(images)
    torch.testing.assert_close(found, expected)


# Rounds


def test_rounds_take_the_same_share_each_time():
    assert stops(64, 1, 6) == [32, 16, 8, 4, 2, 1]
    assert stops(4, 2, 100) == [3, 2]


def test_best_of_a_group_leaves_last():
    scores = {"a": np.array([0.0, 0.1, 0.2]), "b": np.array([1.0, 2.0, 3.0])}
    found = score_by_elimination({"a": 3, "b": 3}, lambda alive: scores, rounds=1)
    np.testing.assert_allclose(found["a"], [1 / 6, 2 / 6, 5 / 6])
    np.testing.assert_allclose(found["b"], [3 / 6, 4 / 6, 6 / 6])


def test_units_removed_earlier_score_lower():
    """Scores that turn round once a unit has left."""

    def score(alive):
        first = alive["a"].all()
        return {"a": np.arange(4.0) if first else -np.arange(4.0)}

    found = score_by_elimination({"a": 4}, score, rounds=100)
    assert order_of(found["a"]) == [0, 3, 2, 1]


def greedy_by_cutting(name, given):
    """Units of the only group in the order in which a criterion, asked anew, gives them up."""
    (group,) = given.graph.groups
    width = given.graph.widths[group]
    there = list(range(width))
    left = []
    while len(there) > 1:
        kept = {group: np.array(there)}
        cut = apply_selection(
            given.model, Selection(kept, {group: width}, "x"), joined(given)[0][:1]
        )
        scores = CRITERIA[name](given_for(cut, *joined(given)))[group]
        left.append(there.pop(int(np.argmin(scores))))
    return left + there


def copies(alone):
    """Two units that do the same for one image, and a third that another image needs."""
    first = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    model = linear_chain(first, [[5.0, 5.0, 0.0], [0.0, 0.0, alone]])
    return given_for(model, torch.eye(2).double(), torch.tensor([0, 1]))


@pytest.mark.parametrize(("name", "alone"), [("snip", 8.0), ("grasp", 6.0)])
def test_rounds_keep_one_of_two_copies(name, alone):
    given = copies(alone)
    once, rounds = (CRITERIA[which](given)["0"] for which in (name, f"{name}-iterative"))
    assert order_of(once) == [0, 1, 2]
    assert order_of(rounds) == greedy_by_cutting(name, given) == [0, 2, 1]


# Synaptic flow


def flow_by_hand(model):
    """Product of absolute weights, with ones on either side."""
    total = np.ones(model[0].in_features)
    for layer in model:
        if isinstance(layer, nn.Linear):
            total = np.abs(layer.weight.detach().numpy()) @ total
        elif isinstance(layer, nn.BatchNorm1d):
            root = np.sqrt(layer.running_var.numpy() + layer.eps)
            total = total * np.abs(layer.weight.detach().numpy()) / root
    return total.sum()


def normed_chain(seed):
    torch.manual_seed(seed)
    layers = nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU()
    model = nn.Sequential(*layers, nn.Linear(4, 2)).double().eval()
    model[1].running_var.uniform_(0.5, 2)
    model[1].running_mean.normal_()
    model[1].weight.data.normal_()
    return given_for(model, torch.randn(2, 3).double(), torch.zeros(2).long())


def test_synaptic_flow_is_conserved_from_layer_to_layer(seed):
    given = normed_chain(seed)
    flows = synaptic_flow(given, alive_but(given.graph))
    for flow in flows.values():
        np.testing.assert_allclose(flow.sum(), flow_by_hand(given.model), rtol=1e-12)


def test_synaptic_flow_is_conserved_when_units_have_left(seed):
    given = normed_chain(seed)
    flows = synaptic_flow(given, alive_but(given.graph, **{"0": [1, 4], "3": [0]}))
    with torch.no_grad():
        given.model[3].weight[:, [1, 4]] = 0
        given.model[5].weight[:, [0]] = 0
    for flow in flows.values():
        np.testing.assert_allclose(flow.sum(), flow_by_hand(given.model), rtol=1e-12)
    assert flows["0"][[1, 4]].tolist() == [0, 0]
    assert flows["3"][0] == 0


def test_synflow_does_not_empty_a_wide_layer_first():
    """Each of eight equal units has an eighth of the flow; the narrow layer's have 0.4 and 0.6."""
    model = linear_chain([[0.4], [0.6]], [[1.0, 1.0]] * 8, [[1.0] * 8])
    given = given_for(model, torch.ones(1, 1).double(), torch.zeros(1).long())
    once = synaptic_flow(given, alive_but(given.graph))
    assert once["2"].max() < once["0"].min()  # the wide layer goes as a whole
    scores = CRITERIA["synflow"](given)
    assert scores["0"][0] < np.sort(scores["2"])[-2]  # at two of eight it is the narrow one's turn


# Second derivatives


def flat_loss(given, temperature=1.0):
    """Mean loss as a function of all weights in one vector, that vector, and each layer's part."""
    images, labels = joined(given)
    names = [name for name, p in given.model.named_parameters() if name.endswith("weight")]
    tensors = {name: p.detach() for name, p in given.model.named_parameters()}
    ends = np.cumsum([tensors[name].numel() for name in names])
    parts = {name: (e - tensors[name].numel(), e) for name, e in zip(names, ends, strict=True)}

    def loss(vector):
        own = {n: vector[a:b].view_as(tensors[n]) for n, (a, b) in parts.items()}
        outputs = torch.func.functional_call(given.model, tensors | own, (images,))
        return F.cross_entropy(outputs / temperature, labels)

    vector = torch.cat([tensors[name].flatten() for name in names])
    return loss, vector, parts


def of_units(given, vector, parts):
    """By group, the vector with all but the weights of one unit at zero."""
    found = {}
    for group, width in given.graph.widths.items():
        start, end = parts[f"{group}.weight"]
        found[group] = []
        for rows in torch.arange(start, end).view(width, -1):
            one = torch.zeros_like(vector)
            one[rows] = vector[rows]
            found[group].append(one)
    return found


def test_grasp_matches_finite_differences_of_the_gradient_norm(chain):
    loss, vector, parts = flat_loss(chain, temperature=200)

    def half_norm(at):
        at = at.clone().requires_grad_(True)
        return float(torch.autograd.grad(loss(at), at)[0].square().sum() / 2)

    scores = CRITERIA["grasp"](chain)
    for group, units in of_units(chain, vector, parts).items():
        step = 1e-4
        slopes = [
            (half_norm(vector + step * u) - half_norm(vector - step * u)) / (2 * step)
            for u in units
        ]
        np.testing.assert_allclose(scores[group], slopes, rtol=1e-5, atol=1e-12)


def test_sosp_h_matches_the_explicit_hessian(chain):
    loss, vector, parts = flat_loss(chain)
    hessian = torch.autograd.functional.hessian(loss, vector)
    gradient = torch.autograd.functional.jacobian(loss, vector)
    units = of_units(chain, vector, parts)
    removed = sum(u for listed in units.values() for u in listed)  # not the last layer
    scores = CRITERIA["sosp-h"](chain)
    for group, listed in units.items():
        expected = [abs(u @ gradient) + abs(u @ hessian @ removed) / 2 for u in listed]
        np.testing.assert_allclose(scores[group], expected, rtol=1e-9)


def test_sosp_h_sees_a_unit_at_an_optimum_and_taylor_does_not():
    """Unit 0 says 3 to 1 where labels are 3 to 1: no slope, but p (1 - p) ln(3)^2 of curvature."""
    model = linear_chain(np.eye(2).tolist(), [[np.log(3), 0.02], [0.0, 0.0]])
    images = torch.eye(2).double()[[0, 0, 0, 0, 1]]
    given = given_for(model, images, torch.tensor([0, 0, 0, 1, 0]))
    assert order_of(CRITERIA["taylor"](given)["0"]) == [0, 1]
    scores = CRITERIA["sosp-h"](given)["0"]
    assert order_of(scores) == [1, 0]
    assert scores[0] == pytest.approx(4 / 5 * 3 / 16 * np.log(3) ** 2 / 2, rel=1e-9)


def test_obd_is_half_of_torch_prunings_hessian_of_single_images(seed):
    model, graph = build_small("resnet20", seed=seed), graph_of("resnet20")
    images, labels = images_for("resnet20", 3, seed), torch.tensor([1, 5, 7])
    dependencies, traced = trace_dependencies(model, images[:1])
    accumulate_squares(traced, [(images, labels)])
    importance = tp.importance.GroupHessianImportance(group_reduction="sum", normalizer=None)
    given = CriterionInput(model, graph, lambda: iter([(images, labels)]), 0)
    scores = CRITERIA["obd"](given)
    for name, group in graph.groups.items():
        root, every = traced.get_submodule(name), list(range(group.width))
        coupled = dependencies.get_pruning_group(root, tp.prune_conv_out_channels, every)
        makers = tp.prune_conv_out_channels, tp.prune_linear_out_channels
        coupled._group = [item for item in coupled._group if item.dep.pruning_fn in makers]
        np.testing.assert_allclose(2 * scores[name], importance(coupled).numpy(), rtol=1e-4)


# Gates on what is read


def losses_scaled(given, layer, unit, factor):
    """Loss of every image (n,) when what follows a layer of a chain sees a unit times a factor."""
    images, labels = joined(given)
    for at, module in enumerate(given.model):
        images = module(images)
        if at == layer + 1:  # after its nonlinearity
            images = images.clone()
            images[:, unit] *= factor
    return F.cross_entropy(images, labels, reduction="none")


@torch.no_grad()
def slopes_by_gate(given, group, step=1e-5):
    """Derivative of every image's loss by every unit's gate, (n, width), by differences."""
    columns = []
    for unit in range(given.graph.widths[group]):
        up, down = (losses_scaled(given, int(group), unit, 1 + s) for s in (step, -step))
        columns.append((up - down) / (2 * step))
    return torch.stack(columns, 1).numpy()


def test_snip_matches_finite_differences_of_gates(chain):
    for group, scores in CRITERIA["snip"](chain).items():
        expected = np.abs(slopes_by_gate(chain, group).mean(0))
        np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-10)


def test_taylor_2017_matches_finite_differences_of_every_image(chain):
    for group, scores in CRITERIA["taylor-2017"](chain).items():
        means = np.abs(slopes_by_gate(chain, group)).mean(0)
        np.testing.assert_allclose(scores, means / np.sqrt((means**2).sum()), rtol=1e-5)


def test_taylor_2017_counts_what_images_undo_and_snip_does_not():
    """Unit 0 helps one image as much as it harms the other, at p = 1 / (1 + e^1.5) each."""
    model = linear_chain([[1, 1], [1, 0], [0, 1]], [[1, 0.5, -2.5], [0, 0, 0]])
    given = given_for(model, torch.eye(2).double(), torch.tensor([0, 1]))
    p = 1 / (1 + np.exp(1.5))
    snip, taylor = (CRITERIA[name](given)["0"] for name in ("snip", "taylor-2017"))
    slopes = p * np.array([[-1, -0.5, 0], [1, 0, -2.5]])  # of each image's loss, by hand
    np.testing.assert_allclose(snip, np.abs(slopes.mean(0)), atol=1e-12)
    means = np.abs(slopes).mean(0)
    np.testing.assert_allclose(taylor, means / np.linalg.norm(means), rtol=1e-9)
    assert order_of(snip)[0] == 0
    assert order_of(taylor)[0] == 1


# Training


def trained_loss(model, images, labels):
    """Loss after ProsPr's steps by torch's optimiser, batch norms in training."""
    model = copy.deepcopy(model).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=STEP)
    for _ in range(STEPS):
        optimiser.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimiser.step()
    with torch.no_grad():
        return float(F.cross_entropy(model(images), labels))


def test_prospr_matches_finite_differences_through_training(seed):
    torch.manual_seed(seed)
    layers = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(64, 3)
    model = nn.Sequential(*layers).double().eval()
    images, labels = torch.randn(8, 2, 6, 6).double(), torch.randint(3, (8,))
    expected = []
    for unit in range(4):
        losses = []
        for factor in (1 + 1e-5, 1 - 1e-5):
            scaled = copy.deepcopy(model)
            scaled[4].weight.data[:, 16 * unit : 16 * unit + 16] *= factor
            losses.append(trained_loss(scaled, images, labels))
        expected.append(abs(losses[0] - losses[1]) / 2e-5)
    scores = CRITERIA["prospr"](given_for(model, images, labels))
    np.testing.assert_allclose(scores["0"], expected, rtol=1e-4)


def test_prospr_differs_from_snip_by_what_the_steps_do(chain):
    snip, prospr = (CRITERIA[name](chain) for name in ("snip", "prospr"))
    for group in snip:
        assert np.abs(prospr[group] / snip[group] - 1).max() > 1e-3


def trained_twin(model, images, labels):
    """A pass of torch's own descent over a copy, all images in one batch."""
    model = copy.deepcopy(model).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=DESCENT.rate, momentum=DESCENT.momentum)
    for x, y in zip(images.split(64), labels.split(64), strict=True):
        optimiser.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimiser.step()
    return dict(model.named_parameters())


def test_imp_trains_what_is_left_as_if_the_rest_were_cut(seed):
    model = small_resnet(seed)
    images = torch.randn(70, 3, 8, 8).double()
    labels = torch.randint(10, (70,))
    graph = build_graph(model, images[:1])
    selection = random_selection(graph, seed)
    given = CriterionInput(model, graph, lambda: iter([(images, labels)]), 0)
    alive = alive_but(graph, **{group: selection.dropped(group) for group in graph.groups})
    trained = train_gated(given, alive)
    expected = trained_twin(apply_selection(model, selection, images[:1]), images, labels)
    rows = torch.from_numpy(selection.kept["layer1.0.conv1"])
    columns = torch.from_numpy(selection.kept["conv1"])
    found = trained["layer1.0.conv1.weight"][rows][:, columns]
    torch.testing.assert_close(found, expected["layer1.0.conv1.weight"].detach())


def test_imp_goes_by_weights_after_training_and_l1_by_those_before():
    """The unit of less weight is the one that the loss makes larger; the other has no effect."""
    model = linear_chain([[1.0], [0.99]], [[0.0, 2.0], [0.0, -2.0]])
    images = torch.ones(512, 1).double()
    given = given_for(model, images, torch.zeros(512).long(), size=64)
    assert order_of(CRITERIA["l1"](given)["0"]) == [1, 0]
    assert order_of(CRITERIA["imp"](given)["0"]) == [0, 1]
    weights = trained_twin(model, images, torch.zeros(512).long())["0.weight"].detach()
    assert float(weights[1]) > float(weights[0]) == pytest.approx(1, abs=1e-4)
