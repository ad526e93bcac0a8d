"""Rules for labels: an overload that none covers mixes, and a mistake of ours is one."""

import builtins

import pytest
import torch
from oracles import Net
from torch import nn

from mipp.errors import ModelError
from mipp.graph import build_graph, operation_rules

LAYERS = {"first": (3, 8), "second": (8, 6), "third": (6, 5), "head": (5, 2)}


def chain(operation):
    def forward(net, x):
        x = operation(net.first(x)).relu()
        return net.head(net.third(net.second(x).relu()).relu())

    return Net(forward, **{name: nn.Linear(*sides) for name, sides in LAYERS.items()})


UNCOVERED = {
    "a view of another type": lambda x: x.view(torch.int32).view(x.dtype),
    "several at once": lambda x: torch._foreach_mul([x, x[:, :4]], 2.0)[0],
}


@pytest.mark.parametrize("name", UNCOVERED)
def test_overload_that_no_rule_covers_leaves_channels_whole(name):
    graph = build_graph(chain(UNCOVERED[name]), torch.randn(1, 3))
    assert "first" in graph.left_whole
    assert list(graph.groups) == ["third", "second"]


ERRORS = ("AssertionError", "IndexError", "RuntimeError", "TypeError")


@pytest.mark.parametrize("error", ERRORS)
def test_error_of_a_rule_surfaces(monkeypatch, error):
    code = compile(f"def rule(*_): raise {error}('a mistake in a rule')", "rule", "exec")
    written = dict(vars(operation_rules))
    exec(code, written)  # as if it were written there
    monkeypatch.setattr(operation_rules, "combine", written["rule"])
    with pytest.raises(getattr(builtins, error), match="a mistake in a rule"):
        build_graph(chain(torch.sin), torch.randn(1, 3))


@pytest.mark.parametrize("error", ERRORS)
def test_error_of_forward_is_refused(error):
    def claim(x):
        raise getattr(builtins, error)("too few")

    with pytest.raises(ModelError, match=rf"does not run .* {error}: too few"):
        build_graph(chain(claim), torch.randn(1, 3))


def test_error_of_an_operator_is_forwards():
    with pytest.raises(ModelError, match=r"does not run .* RuntimeError: "):
        build_graph(chain(lambda x: x @ x), torch.randn(1, 3))
