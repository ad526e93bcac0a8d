"""Networks that torch traces, scripts or follows with `fx` are no other once they are pruned."""

import pickle

import pytest
import torch
from torch import nn

import mipp
from mipp.vision import torchvision

WIDTH = 24
models = torchvision.models


class Encoder(nn.Module):
    """A stack of torch's over columns, of which the second half may be padded."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(48, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 32, batch_first=True)
        self.stack = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x):
        tokens = self.embed(x.flatten(1, 2).transpose(1, 2))
        padding = x[:, 0, 0] > 2
        return self.head(self.stack(tokens, src_key_padding_mask=padding).mean(1))


class Memory(nn.Module):
    """Columns that attend to rows."""

    def __init__(self):
        super().__init__()
        self.columns, self.rows = nn.Linear(48, WIDTH), nn.Linear(48, WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, 3, batch_first=True)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x):
        columns = self.columns(x.flatten(1, 2).transpose(1, 2))
        rows = self.rows(x.transpose(2, 3).flatten(1, 2).transpose(1, 2))
        mixed, shares = self.attention(columns, rows, rows)
        return self.head((columns + mixed).mean(1)), shares


def swin(second):
    parts = models.swin_transformer
    kinds = {"block": parts.SwinTransformerBlock, "downsample_layer": parts.PatchMerging}
    if second:
        kinds = {"block": parts.SwinTransformerBlockV2, "downsample_layer": parts.PatchMergingV2}
    return models.SwinTransformer([2, 2], 16, [2], [2], [4, 4], num_classes=3, **kinds)


NETWORKS = {
    "encoder": Encoder,
    "memory": Memory,
    "vit": lambda: models.VisionTransformer(16, 4, 2, 2, WIDTH, 32, num_classes=3),
    "swin": lambda: swin(False),
    "swin 2": lambda: swin(True),
}


SLOW = dict.fromkeys(("memory", "swin", "swin 2"), pytest.mark.slow)


@pytest.fixture(scope="module", params=[pytest.param(n, marks=SLOW.get(n, ())) for n in NETWORKS])
def pruned(request):
    torch.manual_seed(0)
    net = NETWORKS[request.param]().eval()
    for parameter in net.parameters():
        if parameter.detach().std() < 0.1:
            parameter.data.add_(0.1 * torch.randn(parameter.shape))
    images = torch.randn(16, 3, 16, 16)
    model = mipp.prune(net, images, "macs:0.5").model
    ours = [m for m in model.modules() if type(m).__module__.startswith("mipp.")]
    assert ours  # one of them takes the place of a layer that was cut
    return model


WAYS = {
    "trace": lambda model, x: torch.jit.trace(model, x),
    "script": lambda model, x: torch.jit.script(model),
    "fx": lambda model, x: torch.fx.symbolic_trace(model),
    "fx, unpickled": lambda model, x: torch.fx.symbolic_trace(pickle.loads(pickle.dumps(model))),
}


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("way", WAYS)
def test_program_computes_what_the_pruned_network_does(pruned, way):
    program = WAYS[way](pruned, torch.randn(2, 3, 16, 16))
    images = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(program(images), pruned(images))
