"""Linear layers that are used without being called are pruned like those that are."""

import pytest
import torch
import torch.nn.functional as F
from oracles import assert_zeroing, random_selection
from torch import nn

import mipp
from mipp.evaluation import evaluating
from mipp.graph import build_graph
from mipp.metrics import count_macs
from mipp.refit import sharing


class Borrows(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 12), nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = F.linear(self.a(x).relu(), self.b.weight, bias=self.b.bias).relu()
        return self.c(x)


class Calls(Borrows):
    def forward(self, x):
        return self.c(self.b(self.a(x).relu()).relu())


def networks(seed):
    torch.manual_seed(seed)
    borrows, calls = Borrows().eval(), Calls().eval()
    calls.load_state_dict(borrows.state_dict())
    return borrows, calls, torch.randn(64, 5)


@pytest.mark.parametrize("method", ["mipp", "l1", "taylor", "thinet", "synflow", "hrank"])
def test_same_units_and_weights_as_of_a_network_that_calls_them(method, seed):
    borrows, calls, x = networks(seed)
    data = [(x, torch.arange(64) % 3)]
    found, expected = (mipp.prune(m, data, "macs:0.5", method=method) for m in (borrows, calls))
    assert found.report.macs == expected.report.macs == count_macs(found.model, (5,))
    torch.testing.assert_close(found.model(x), expected.model(x))
    assert found.model.b.weight.shape == expected.model.b.weight.shape < calls.b.weight.shape


def test_refit_in_several_passes_sees_borrowed_layers_in_each(seed, monkeypatch):
    class BorrowsMore(Borrows):
        def forward(self, x):
            x = F.linear(self.a(x).relu(), self.b.weight, self.b.bias).relu()
            return F.linear(x, self.c.weight, self.c.bias)

    _, calls, x = networks(seed)
    monkeypatch.setattr(sharing, "CHUNK", 16 * x[0].nbytes)
    borrows = BorrowsMore().eval()
    borrows.load_state_dict(calls.state_dict())
    found, expected = (mipp.prune(m, x.split(16), "macs:0.5") for m in (borrows, calls))
    torch.testing.assert_close(found.model(x), expected.model(x), rtol=0, atol=1e-6)


def test_hooks_of_a_borrowed_layer_run_once():
    borrows, calls, x = networks(0)
    seen = []
    for model in (borrows, calls):
        model.b.register_forward_hook(lambda *_: seen.append(1))
        with evaluating(model):
            model(x)
    assert len(seen) == 2
    assert torch.equal(borrows(x), calls(x))


class BiasOfParts(nn.Module):
    """Queries and values have biases, keys have none, as in BEiT."""

    def __init__(self):
        super().__init__()
        self.embed, self.qkv = nn.Linear(5, 8), nn.Linear(8, 24, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.randn(8)), nn.Parameter(torch.randn(8))
        self.register_buffer("k_bias", torch.zeros(8), persistent=False)
        self.proj, self.head = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.embed(x)
        bias = torch.cat((self.q_bias, self.k_bias, self.v_bias))
        parts = F.linear(x, self.qkv.weight, bias).view(*x.shape[:2], 3, -1, 2)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head((x + self.proj(mixed)).mean(1))


def test_borrowed_layer_may_be_given_a_bias_of_other_parameters(seed):
    torch.manual_seed(seed)
    model, x = BiasOfParts().double().eval(), torch.randn(8, 5, 5).double()
    graph = build_graph(model, x[:1])
    [heads] = [g for g in graph.groups.values() if "qkv" in {m.module for m in g.producers}]
    assert (heads.width, heads.producers[0].features.shape) == (4, (4, 6))
    assert_zeroing(model, graph, random_selection(graph, seed), x)
    found = mipp.prune(model, [x], "macs:0.5", images=8)
    assert count_macs(found.model, (5, 5)) <= 0.5 * count_macs(model, (5, 5))
    found.model.train()(x).square().sum().backward()
    assert len(found.model.q_bias) == found.model.qkv.out_features // 3 < 8
