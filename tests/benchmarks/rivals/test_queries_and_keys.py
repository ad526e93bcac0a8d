"""CORP's other half: dimensions of queries and keys, and the map that makes up for their logits."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn

from benchmarks.rivals.corp import RIDGE, corp
from benchmarks.rivals.shared.queries_and_keys import attentions_of, logits_of, with_dimensions
from mipp.criteria import CriterionInput
from mipp.errors import ConfigError
from mipp.graph import build_graph
from mipp.metrics import count_macs, count_params
from mipp.selection.selection import Selection, keep_all
from mipp.vision import torchvision  # noqa: F401  before timm, which imports it plainly

TOKENS, WIDTH, HEADS, SIZE = 6, 12, 3, 4
NAME = "1.attn, queries and keys"


def transformer(**options):
    from timm.models.vision_transformer import Block

    torch.manual_seed(0)
    block = Block(WIDTH, HEADS, mlp_ratio=2.0, **{"qkv_bias": True, **options})
    return nn.Sequential(nn.Linear(5, WIDTH), block, nn.Linear(WIDTH, 3)).double().eval()


def given_by(model):
    with torch.no_grad():
        model[1].attn.qkv.weight.mul_(8)  # logits that tell tokens apart
        if model[1].attn.qkv.bias is not None:
            model[1].attn.qkv.bias.normal_()
    x = torch.randn(10, TOKENS, 5, dtype=torch.float64)
    labels = torch.zeros(10, dtype=torch.long)
    parts = [(x[:7], labels[:7]), (x[7:], labels[7:])]
    return CriterionInput(model, build_graph(model, x[:1]), lambda: parts, 0)


@pytest.fixture(scope="module")
def given():
    return given_by(transformer())


def images_of(given):
    return torch.cat([x for x, _ in given.batches()])


def keeping(given, ranks, **channels):
    whole = keep_all(with_dimensions(given.graph, logits_of(given)).widths, "by hand")
    chosen = {NAME: np.asarray(ranks)} | {f"1.{k}": np.array(v) for k, v in channels.items()}
    return Selection({**whole.kept, **chosen}, whole.width, whole.method)


def projected(given, x):
    """Queries, keys and values of the dense network (heads, images, tokens, size)."""
    block = given.model[1]
    with torch.no_grad():
        rows = block.attn.qkv(block.norm1(given.model[0](x)))
    return rows.reshape(len(x), TOKENS, 3, HEADS, SIZE).permute(2, 3, 0, 1, 4).numpy()


def strongest(q, k, count):
    """Dimensions whose own logits are the largest, of one head."""
    own = [np.square(q[..., j, None] * k[..., None, :, j]).sum() for j in range(SIZE)]
    return np.argsort(own)[::-1][:count]


def features(q, k, kept):
    """Rows of all images and pairs of tokens: products of kept queries with kept keys."""
    return np.einsum("nti,nsj->ntsij", q[..., kept], k[..., kept]).reshape(-1, len(kept) ** 2)


def with_logits(given, x, logits):
    """Outputs of the network where its heads have these logits (heads, images, tokens, tokens)."""
    shares = (torch.from_numpy(logits) * SIZE**-0.5).softmax(-1)
    mixed = (shares @ torch.from_numpy(projected(given, x)[2])).permute(1, 2, 0, 3).flatten(2)
    head, block, last = given.model
    with torch.no_grad():
        tokens = head(x) + block.attn.proj(mixed)
        return last(tokens + block.mlp(block.norm2(tokens)))


@pytest.mark.parametrize("count", [1, 3])
def test_corp_gives_every_head_the_ridge_reconstruction_of_its_logits(given, count):
    x, logits = images_of(given), []
    for q, k in zip(*projected(given, x)[:2], strict=True):
        kept = strongest(q, k, count)
        lost = np.setdiff1d(np.arange(SIZE), kept)
        rows, target = features(q, k, kept), np.einsum("ntj,nsj->nts", q[..., lost], k[..., lost])
        ridge = RIDGE * np.square(rows).sum(0).mean()
        fit = Ridge(ridge, fit_intercept=False).fit(rows, target.ravel())
        own = np.einsum("ntj,nsj->nts", q[..., kept], k[..., kept])
        logits.append(own + fit.predict(rows).reshape(own.shape))
    with torch.no_grad():
        found = corp(given, keeping(given, range(count)))(x)
    torch.testing.assert_close(found, with_logits(given, x, np.stack(logits)), rtol=1e-8, atol=1e-8)


def test_what_is_lost_without_a_map_is_more_than_with_it(given):
    x, selection = images_of(given), keeping(given, [0, 1])
    plain = [
        np.einsum("ntj,nsj->nts", *(side[..., strongest(q, k, 2)] for side in (q, k)))
        for q, k in zip(*projected(given, x)[:2], strict=True)
    ]
    with torch.no_grad():
        dense, mended = given.model(x), corp(given, selection)(x)
        cut = with_logits(given, x, np.stack(plain))
    assert (mended - dense).square().mean() < (cut - dense).square().mean()


def test_dimensions_that_others_hold_cost_next_to_nothing():
    model = transformer()
    given = given_by(model)
    qkv = model[1].attn.qkv
    with torch.no_grad():
        for rows in (qkv.weight, qkv.bias[:, None]):
            queries, keys, _ = rows.view(3, HEADS, SIZE, -1)
            queries[:, 3] = 0.2 * queries[:, 0] - 0.1 * queries[:, 1]
            keys[:, 3] = 0.2 * keys[:, 2]
    x = images_of(given)
    with torch.no_grad():
        dense, found = model(x), corp(given, keeping(given, [0, 1, 2]))(x)
    assert (found - dense).square().mean() < 1e-6 * dense.var()


def test_nothing_lost_changes_nothing(given):
    x = images_of(given)
    with torch.no_grad():
        torch.testing.assert_close(corp(given, keeping(given, range(SIZE)))(x), given.model(x))


@pytest.mark.parametrize("options", [{}, {"qkv_bias": False}])
def test_costs_in_the_graph_are_those_of_the_network_that_is_cut(options):
    given = given_by(transformer(**options))
    whole = with_dimensions(given.graph, logits_of(given))
    selection = keeping(given, [0, 2], **{"mlp.fc1": range(7)})
    pruned = corp(given, selection)
    assert count_macs(pruned, (TOKENS, 5)) == whole.macs(selection.counts())
    assert count_params(pruned) == whole.params(selection.counts())
    assert whole.macs(whole.widths) == given.graph.macs(given.graph.widths)


def test_dimensions_beside_heads_are_refused_by_name(given):
    with pytest.raises(ConfigError, match=r"'1\.attn' cannot lose dimensions beside heads"):
        corp(given, keeping(given, [0, 1], attn=[0, 2]))


def test_attentions_that_normalise_queries_and_keys_keep_their_dimensions():
    assert list(attentions_of(transformer())) == [NAME]
    assert not attentions_of(transformer(qk_norm=True))
