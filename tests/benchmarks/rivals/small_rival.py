"""Networks small enough for a rival's equations to be written out beside it, in float64."""

import numpy as np
import torch
from torch import nn

from mipp.criteria import CriterionInput
from mipp.graph import build_graph
from mipp.selection.selection import Selection, keep_all


def perceptron():
    """Two hidden layers of 8 and 6 units."""
    return nn.Sequential(
        nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)
    ).double()


def convolutions():
    """A hidden layer of 6 channels, whose reader has no bias but a batch-norm behind it."""
    return nn.Sequential(
        nn.Conv2d(2, 6, 3),
        nn.ReLU(),
        nn.Conv2d(6, 4, 2, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 16, 3),
    ).double()


SHAPES = {perceptron: (5,), convolutions: (2, 7, 7)}


def given_by(build, images=64, seed=0):
    """Network with its graph and images, as rivals are given them."""
    torch.manual_seed(seed)
    model = build().eval()
    x = torch.randn(images, *SHAPES[build], dtype=torch.float64)
    for module in model:
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    labels = torch.zeros(images, dtype=torch.long)
    graph = build_graph(model, x[:1])
    return CriterionInput(model, graph, lambda: [(x[:40], labels[:40]), (x[40:], labels[40:])], 0)


def images_of(given):
    return torch.cat([x for x, _ in given.batches()])


def keeping(given, **kept):
    """Selection that keeps all but of the named layers, `_0=[1, 2]` for those of module 0."""
    whole = keep_all(given.graph.widths, "by hand")
    chosen = {name.removeprefix("_"): np.array(channels) for name, channels in kept.items()}
    return Selection({**whole.kept, **chosen}, whole.width, whole.method)


def replaced(model, reader, function, x):
    """Outputs of the network when a reader is given something else than what it reads."""
    hook = model[reader].register_forward_pre_hook(lambda _, inputs: (function(inputs[0]),))
    with torch.no_grad():
        outputs = model(x)
    hook.remove()
    return outputs


def read_by(model, reader, x):
    """What a reader reads."""
    with torch.no_grad():
        return model[:reader](x)


def rows_read(model, reader, x):
    """Channels of what a reader reads, every place an observation: numpy (n, channels)."""
    return read_by(model, reader, x).movedim(1, -1).flatten(0, -2).numpy()
