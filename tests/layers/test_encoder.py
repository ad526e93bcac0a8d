"""torch's stack of encoder layers with a padding mask, which it packs into nested tensors."""

import pytest
import torch
from torch import nn

import mipp
from mipp.layers.encoder import PaddedEncoder

WIDTH, TOKENS = 32, 9


class Padded(nn.Module):
    """A stack of two layers over as many tokens as the first feature says; all are averaged."""

    def __init__(self, mask="left", norm=False):
        super().__init__()
        self.mask = mask
        self.embed = nn.Linear(5, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 24, batch_first=True)
        self.stack = nn.TransformerEncoder(layer, 2, nn.LayerNorm(WIDTH) if norm else None)
        self.head = nn.Linear(WIDTH, 3)

    def tokens(self, x):
        padding = torch.arange(TOKENS) >= 3 + (x[:, :1, 0].abs() * 3).long()
        if self.mask == "right":
            padding = padding.flip(1)
        if self.mask == "added":
            padding = torch.zeros(padding.shape).masked_fill(padding, -torch.inf)
        return self.embed(x), padding

    def forward(self, x):
        tokens, padding = self.tokens(x)
        return self.head(self.stack(tokens, src_key_padding_mask=padding).mean(1))


KINDS = {"left": {}, "right": {"mask": "right"}, "added": {"mask": "added"}, "norm": {"norm": True}}


@pytest.mark.filterwarnings("ignore:.*nested tensors:UserWarning")
@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_padded_tokens_give_what_nested_ones_do(options):
    net, x = Padded(**options).eval(), torch.randn(6, TOKENS, 5)
    with torch.no_grad():
        tokens, padding = net.tokens(x)
        nested = net.stack(tokens, src_key_padding_mask=padding)
        padded = PaddedEncoder.forward(net.stack, tokens, src_key_padding_mask=padding)
    torch.testing.assert_close(padded, nested)


@pytest.mark.filterwarnings("ignore:.*nested tensors:UserWarning")
def test_stack_with_a_padding_mask_is_pruned_and_runs_without_gradients(tmp_path):
    net, x = Padded().eval(), torch.randn(64, TOKENS, 5)
    pruned = mipp.prune(net, x, "macs:0.6")
    assert isinstance(pruned.model.stack, PaddedEncoder)
    with torch.no_grad():
        made = pruned.model(x)
    torch.testing.assert_close(made, pruned.model(x))  # with gradients nothing is packed
    pruned.save(tmp_path / "net.safetensors")
    with torch.no_grad():
        assert torch.equal(mipp.load(tmp_path / "net.safetensors", Padded)(x), made)
