"""Train mode, other calls and forwards that depend on the data: all are followed, or it is said."""

import copy

import pytest
import torch
import torch.nn.functional as F
from oracles import Net
from torch import nn

import mipp
from mipp.errors import ModelError
from mipp.graph import build_graph
from mipp.inputs import tensors_in

IMAGES = torch.randn(64, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def trunk():
    return {"a": nn.Conv2d(3, 16, 3), "b": nn.Conv2d(16, 24, 3), "c": nn.Conv2d(24, 24, 3)}


def two_heads(net, x):
    m = net.b(net.a(x).relu()).relu()
    y = net.head(net.c(m).relu().mean((2, 3)))
    return (y, net.aux(m.mean((2, 3)))) if net.training else y


def deep_supervision(net, x):
    sides = [net.a(x).relu()]
    sides.append(net.b(sides[0]).relu())
    y = net.head(net.c(sides[1]).relu().mean((2, 3)))
    if not net.training:
        return {"out": y}
    return {"out": y, "sides": [net.side(sides[0]), net.other_side(sides[1])]}


def normed_head(net, x):
    """The head begins with a norm and has layers of its own; features are dropped at random."""
    m = net.b(net.a(x).relu()).relu()
    y = net.head(F.dropout(net.c(m).relu().mean((2, 3)), 0.5, net.training))
    return (y, net.aux(net.hidden(net.norm(m)).relu().mean((2, 3)))) if net.training else y


def scaled_branch(net, x):
    """Whole branches are dropped at random, as stochastic depth does."""
    m = net.b(net.a(x).relu()).relu()
    z = net.c(m).relu()
    if net.training:
        z = z * torch.empty(len(z), 1, 1, 1).bernoulli_(0.5).div(0.5)
        return net.head(z.mean((2, 3))), net.aux(m.mean((2, 3)))
    return net.head(z.mean((2, 3)))


FAMILY = {
    "two heads": (two_heads, {"aux": nn.Linear(24, 10)}),
    "deep supervision": (
        deep_supervision,
        {"side": nn.Conv2d(16, 2, 1), "other_side": nn.Conv2d(24, 2, 1)},
    ),
    "normed head": (
        normed_head,
        {"norm": nn.BatchNorm2d(24), "hidden": nn.Conv2d(24, 8, 1), "aux": nn.Linear(8, 10)},
    ),
    "scaled branch": (scaled_branch, {"aux": nn.Linear(24, 10)}),
}

AT_RANDOM = ("normed head",)  # whose first output has single features dropped


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(7)
        yield


def network(forward, **more):
    return Net(forward, **trunk(), head=nn.Linear(24, 10), **copy.deepcopy(more)).eval()


def silenced(model, selection):
    """The network with the filters of what was dropped at zero, so that it says nothing."""
    model = copy.deepcopy(model)
    for name in selection.kept:
        layer = model.get_submodule(name)
        layer.weight.data[selection.dropped(name)] = 0
        layer.bias.data[selection.dropped(name)] = 0
    return model


@pytest.mark.parametrize("name", FAMILY)
def test_heads_of_train_mode_are_cut_with_their_trunk(name):
    forward, heads = FAMILY[name]
    dense = network(forward, **heads)
    if "norm" in heads:  # brings a zero to zero
        dense.norm.bias.data.zero_()
    found = mipp.prune(dense, [IMAGES], "ratio:0.5", repair="none")
    assert set(found.selection.kept) == {"a", "b", "c"}
    expected = silenced(dense, found.selection)
    for model in (found.model, expected):
        model.train()
        for part in model.children():
            part.eval()
    outputs = []
    for model in (found.model, expected):
        torch.manual_seed(3)
        outputs.append(tensors_in(model(IMAGES)))
    sum(part.sum() for part in outputs[0]).backward()
    assert [part.shape for part in outputs[0]] == [part.shape for part in outputs[1]]
    first = name in AT_RANDOM
    for got, want in zip(*(parts[first:] for parts in outputs), strict=True):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)


def test_heads_of_train_mode_bring_no_information():
    def without(net, x):
        return net.head(net.c(net.b(net.a(x).relu()).relu()).relu().mean((2, 3)))

    dense = network(two_heads, aux=nn.Linear(24, 10))
    bare = Net(without, **{n: m for n, m in dense.named_children() if n != "aux"}).eval()
    found, plain = (mipp.prune(net, [IMAGES]) for net in (dense, bare))
    for group, kept in plain.selection.kept.items():
        assert found.selection.kept[group].tolist() == kept.tolist()
    assert torch.equal(found.model(IMAGES), plain.model(IMAGES))
    assert {pair.consumer for pair in build_graph(dense, IMAGES[:1]).pairs} == {"b", "c", "head"}


def test_parameters_of_heads_that_are_cut_along_are_predicted():
    dense = network(two_heads, aux=nn.Linear(24, 10))
    graph = build_graph(dense, IMAGES[:1])
    found = mipp.prune(dense, [IMAGES], "params:0.5", repair="none")
    counted = sum(parameter.numel() for parameter in found.model.parameters())
    assert graph.params(found.selection.counts()) == counted


def test_what_is_followed_is_left_as_found():
    dense = network(scaled_branch, aux=nn.Linear(24, 10)).train()
    dense.c.eval()
    modes = [module.training for module in dense.modules()]
    drawn = torch.random.get_rng_state()
    build_graph(dense, IMAGES[:1])
    assert [module.training for module in dense.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), drawn)


class WithProjection(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 24, 3)
        self.head, self.projector = nn.Linear(24, 10), nn.Linear(24, 6)

    def features(self, x):
        return self.b(self.a(x).relu()).relu().mean((2, 3))

    def forward(self, x):
        return self.head(self.features(x))

    def project(self, x):
        return self.projector(self.features(x))


@pytest.mark.parametrize("call", ["project", lambda model, x: model.project(x)])
def test_calls_that_are_named_are_cut_too(call):
    dense = WithProjection().eval()
    found = mipp.prune(dense, [IMAGES], "ratio:0.5", repair="none", calls=[call])
    expected = silenced(dense, found.selection)
    assert found.model.projector.in_features == len(found.selection.kept["b"]) < 24
    assert not found.report.unreached
    torch.testing.assert_close(found.model.project(IMAGES), expected.project(IMAGES))


def test_modules_that_no_call_reached_are_named():
    found = mipp.prune(WithProjection().eval(), [IMAGES], "ratio:0.5")
    assert list(found.report.unreached) == ["projector"]
    assert "projector left as it is: no call reached it" in str(found.report)
    assert "calls=" in str(found.report)


def test_every_module_of_a_plain_network_is_reached():
    assert build_graph(network(lambda net, x: two_heads(net, x)), IMAGES[:1]).unreached == {}


def test_a_checkpoint_of_such_a_network_takes_the_same_calls(tmp_path):
    found = mipp.prune(WithProjection().eval(), [IMAGES], "ratio:0.5", calls=["project"])
    path = tmp_path / "network.safetensors"
    mipp.save_checkpoint(path, mipp.Checkpoint(found.model, None, found.selection, (3, 12, 12)))
    again = mipp.load_checkpoint(path, WithProjection, calls=["project"]).model.eval()
    assert torch.equal(again.project(IMAGES), found.model.project(IMAGES))


def test_calls_that_do_not_exist_or_fail_are_refused():
    dense = WithProjection().eval()
    with pytest.raises(ModelError, match="no method 'embed'"):
        mipp.prune(dense, [IMAGES], calls=["embed"])
    with pytest.raises(ModelError, match=r"the call head .* fails"):
        mipp.prune(dense, [IMAGES], calls=["head"])


def test_a_forward_that_needs_targets_to_train_is_said_not_to_have_been_followed():
    def forward(net, x, targets=None):
        y = net.head(net.c(net.b(net.a(x).relu()).relu()).relu().mean((2, 3)))
        if not net.training:
            return y
        if targets is None:
            raise ValueError("targets are missing")
        return y, net.aux(targets)

    found = mipp.prune(network(forward, aux=nn.Linear(3, 1)), [IMAGES], "ratio:0.5", repair="none")
    assert "in train mode forward fails: ValueError: targets are missing" in str(found.report)


class Experts(nn.Module):
    def __init__(self, count):
        super().__init__()
        self.stem, self.trunk, self.gate = (
            nn.Conv2d(3, 16, 3),
            nn.Conv2d(16, 24, 3),
            nn.Linear(3, 4),
        )
        self.experts = nn.ModuleList(nn.Linear(24, 24) for _ in range(count))
        self.head = nn.Linear(24, 10)

    def forward(self, x):
        chosen = self.gate(x.mean((2, 3)))[:, : len(self.experts)].argmax(1)
        m = self.trunk(self.stem(x).relu()).relu().mean((2, 3))
        y = torch.zeros(len(x), 24, dtype=m.dtype)
        for index, expert in enumerate(self.experts):
            if (chosen == index).any():
                y[chosen == index] = expert(m[chosen == index])
        return self.head(y.relu())


def test_a_mixture_of_experts_is_cut_where_all_inputs_go():
    dense = Experts(2).eval()
    dense.gate.weight.data *= 100
    found = mipp.prune(dense, [IMAGES], "ratio:0.5", repair="none")
    assert set(found.selection.kept) == {"stem"}
    expected = silenced(dense, found.selection)
    torch.testing.assert_close(found.model(IMAGES), expected(IMAGES))
    assert "runs for some inputs only" in found.report.left_whole["trunk"]


def test_experts_that_no_input_reached_are_refused_by_name():
    dense = Experts(4).eval()
    dense.gate.weight.data *= 100
    dense.gate.bias.data[3] = -1e9
    with pytest.raises(ModelError, match=r"no input tried reached experts\.3"):
        mipp.prune(dense, [IMAGES], "ratio:0.5")


def test_an_early_exit_keeps_what_only_some_inputs_reach():
    def forward(net, x):
        m = net.b(net.a(x).relu()).relu()
        if float(x.mean()) > float(net.threshold.bias):
            return net.exit(m.mean((2, 3)))
        return net.head(net.c(m).relu().mean((2, 3)))

    dense = network(forward, exit=nn.Linear(24, 10), threshold=nn.Linear(1, 1))
    dense.threshold.bias.data.fill_(float(IMAGES[:4].mean()))
    found = mipp.prune(dense, [IMAGES], "ratio:0.5", repair="none")
    assert set(found.selection.kept) == {"a"}
    assert "runs for some inputs only" in found.report.left_whole["b"]
