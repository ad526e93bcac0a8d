"""torch's default device changes nothing: what mipp draws and makes says where it lies."""

import contextlib
from pathlib import Path

import pytest
import torch
from oracles import Net
from torch import nn

import mipp
from mipp.pruning import oneshot

DEVICE = "meta"  # every machine has it, and nothing can be computed there


@contextlib.contextmanager
def by_default(device):
    former = torch.get_default_device()
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(former)


def network():
    """A stream with most kinds of layers, whose forward makes a tensor of its own."""

    def forward(net, x):
        x = net.norm(net.stem(x)).relu()
        x = x + net.back(net.groups(net.inner(x)).relu())
        tokens = x.flatten(2).transpose(1, 2) + net.places(torch.arange(x.shape[2] * x.shape[3]))
        tokens = tokens + net.attention(tokens, tokens, tokens)[0]
        return net.head(net.last(net.plain(tokens)).relu().mean(1))

    return Net(
        forward,
        stem=nn.Conv2d(3, 8, 3, 2),
        norm=nn.BatchNorm2d(8),
        inner=nn.Conv2d(8, 8, 3, padding=1),
        groups=nn.GroupNorm(2, 8),
        back=nn.ConvTranspose2d(8, 8, 1),
        places=nn.Embedding(9, 8),
        attention=nn.MultiheadAttention(8, 2, batch_first=True),
        plain=nn.LayerNorm(8),
        last=nn.Linear(8, 10),
        head=nn.Linear(10, 3),
    ).eval()


def pruned(device, **how):
    torch.manual_seed(0)
    model, images = network(), torch.randn(32, 3, 8, 8)
    data = [(images[i : i + 16], torch.arange(16) % 3) for i in (0, 16)]
    with by_default(device):
        return mipp.prune(model, data, "macs:0.6", images=32, **how)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"method": "l1", "repair": "recalibrate"},
        {"method": "l1", "repair": "distill"},
        {"method": "taylor"},
        {"method": "chip", "repair": "none"},
        *(
            {"method": name, "repair": "none"}
            for name in ("dcp", "greg-2", "snip", "tpp", "variational")
        ),
    ],
    ids=str,
)
def test_default_device_changes_neither_selection_nor_weights(how, monkeypatch):
    monkeypatch.setitem(oneshot.REPAIRS, "distill", mipp.Distill(steps=4))
    plain, other = pruned("cpu", **how), pruned(DEVICE, **how)
    for group, kept in plain.selection.kept.items():
        assert other.selection.kept[group].tolist() == kept.tolist()
    found = other.model.state_dict()
    for name, tensor in plain.model.state_dict().items():
        assert torch.equal(found[name], tensor)


def test_inspection_and_export_work_under_a_default_device(tmp_path):
    model, example = network(), torch.randn(2, 3, 8, 8)
    expected = mipp.inspect(model, example)
    with by_default(DEVICE):
        assert mipp.inspect(model, example) == expected
        [done] = mipp.export_network(model, (3, 8, 8), Path(tmp_path))
    assert done.batch is None
