"""Linear layers that are used without being called are pruned like those that are."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mipp
from mipp.evaluation import evaluating
from mipp.metrics import count_macs


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


def test_hooks_of_a_borrowed_layer_run_once():
    borrows, calls, x = networks(0)
    seen = []
    for model in (borrows, calls):
        model.b.register_forward_hook(lambda *_: seen.append(1))
        with evaluating(model):
            model(x)
    assert len(seen) == 2
    assert torch.equal(borrows(x), calls(x))
