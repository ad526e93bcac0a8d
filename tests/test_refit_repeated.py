"""Refit of layers that run several times: one map for the rows of all their calls."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracles import Net, enliven_norms, ridge_twin, unfolded_rows
from torch import nn

from mipp.activations import Sampling
from mipp.cut import apply_selection
from mipp.graph import build_graph
from mipp.refit import RefitSettings, output_error, outputs_of, refit
from mipp.selection.selection import Selection

IMAGES = 12
EVERY_ROW = RefitSettings(1e-4, Sampling(10**6, IMAGES, 0), solutions=1, lengths="fitted")


def levels():
    """A head of levels, of which one is made between its calls."""

    def forward(net, x):
        p = net.a(x).relu()
        return torch.cat([net.head(net.c(y)).flatten(1) for y in (p, net.b(p[:, :, ::2]))], 1)

    return Net(
        forward,
        a=nn.Conv2d(3, 8, 3),
        b=nn.Conv2d(8, 8, 3, padding=1),
        c=nn.Conv2d(8, 10, 3, padding=1),
        head=nn.Conv2d(10, 2, 1),
    )


def siamese():
    """Two images through the same layers, the second of which has no bias but a batch-norm."""

    def forward(net, x):
        return net.f(torch.cat([net.e(y).mean((2, 3)) for y in (x, x.flip(3))], 1))

    layers = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3, bias=False), nn.BatchNorm2d(12)
    return Net(forward, e=nn.Sequential(*layers, nn.ReLU()), f=nn.Linear(24, 4))


def frames():
    """Tokens of several images, embedded one after the other."""

    def forward(net, x):
        made = [net.embed(net.patch(y).flatten(2).transpose(1, 2).tanh()) for y in x.split(2, 2)]
        return net.head(torch.stack(made).mean((0, 2)))

    return Net(forward, patch=nn.Conv2d(3, 8, 2), embed=nn.Linear(8, 6), head=nn.Linear(6, 3))


# network -> a layer that runs several times
NETS = {"levels": (levels, "c"), "siamese": (siamese, "e.2"), "frames": (frames, "embed")}


def refitted(name, seed, batches=IMAGES):
    """Dense network, the pruned one before and after, what was fitted, selection and images."""
    torch.manual_seed(seed)
    dense = NETS[name][0]().double().eval()
    enliven_norms(dense, seed)
    x = torch.randn(IMAGES, 3, 8, 8).double()
    graph = build_graph(dense, x[:1])
    rng = np.random.default_rng(seed)
    kept = {g: np.sort(rng.permutation(w)[: w - w // 3]) for g, w in graph.widths.items()}
    selection = Selection(kept, dict(graph.widths), "test")
    before = apply_selection(dense, selection, x[:1])
    after = copy.deepcopy(before)
    fits = refit(after, dense, graph, selection, lambda: x.split(batches), EVERY_ROW)
    return dense, before, after, fits, selection, x


def rows_of_calls(model, layer, x):
    """Inputs (n, d) and outputs (n, m) of a layer at all places of all its calls."""
    seen = []
    module = model.get_submodule(layer)
    handle = module.register_forward_hook(lambda m, inputs, y: seen.append((inputs[0], y)))
    with torch.no_grad():
        model(x)
    handle.remove()
    if isinstance(module, nn.Linear):
        return [
            np.concatenate([v.flatten(0, 1).numpy() for v in side])
            for side in zip(*seen, strict=True)
        ]
    read = [unfolded_rows(module, v).flatten(1) for v, _ in seen]
    made = [y.movedim(1, -1).flatten(0, 2) for _, y in seen]
    return torch.cat(read).numpy(), torch.cat(made).numpy()


@pytest.mark.parametrize("batches", [IMAGES, 5])
@pytest.mark.parametrize("name", NETS)
def test_layer_is_the_least_squares_map_of_the_rows_of_all_its_calls(name, batches, seed):
    layer = NETS[name][1]
    dense, before, after, fits, selection, x = refitted(name, seed, batches)
    assert layer in [fit.layer for fit in fits if not fit.left]
    read, _ = rows_of_calls(after, layer, x)
    _, wanted = rows_of_calls(dense, layer, x)
    module, had = after.get_submodule(layer), before.get_submodule(layer)
    own = selection.kept.get(layer, slice(None))
    free = had.bias is not None or name == "siamese"
    old = had.weight.detach().flatten(1).numpy().T
    weights, offset = ridge_twin(read, wanted[:, own], old, EVERY_ROW.ridge, offset=free)
    np.testing.assert_allclose(module.weight.detach().flatten(1).numpy().T, weights, atol=1e-9)
    if had.bias is not None:
        np.testing.assert_allclose(module.bias.detach().numpy(), offset, atol=1e-9)


@pytest.mark.parametrize("name", NETS)
def test_every_layer_that_reads_what_was_cut_is_fitted_once_and_errs_less(name, seed):
    dense, before, after, fits, _, x = refitted(name, seed)
    layers = [fit.layer for fit in fits]
    assert len(set(layers)) == len(layers)
    assert NETS[name][1] in layers
    wanted = outputs_of(dense, x)
    errors = [output_error(outputs_of(model, x), wanted) for model in (before, after)]
    assert errors[1] < 0.9 * errors[0]


@pytest.mark.parametrize("name", NETS)
def test_one_batch_gives_what_several_give(name, seed):
    one, several = (refitted(name, seed, batches)[2] for batches in (IMAGES, 5))
    for key, value in one.state_dict().items():
        torch.testing.assert_close(value, several.state_dict()[key], rtol=1e-7, atol=1e-7)


def test_layer_that_is_bent_in_forward_is_left_and_named():
    class Bent(nn.Conv2d):
        def forward(self, x):
            return super().forward(x).abs()

    def forward(net, x):
        p = F.relu(net.a(x))
        return net.head(net.c(p).mean((2, 3)) + net.c(p[:, :, 1:]).mean((2, 3)))

    torch.manual_seed(0)
    layers = {"a": nn.Conv2d(3, 8, 3), "c": Bent(8, 6, 3), "head": nn.Linear(6, 2)}
    dense, x = Net(forward, **layers).double().eval(), torch.randn(IMAGES, 3, 8, 8).double()
    graph = build_graph(dense, x[:1])
    selection = Selection(
        {g: np.arange(w // 2) for g, w in graph.widths.items()}, dict(graph.widths), "test"
    )
    pruned = apply_selection(dense, selection, x[:1])
    fits = refit(pruned, dense, graph, selection, lambda: [x], EVERY_ROW)
    assert {fit.layer: bool(fit.left) for fit in fits} == {"c": True, "head": False}
