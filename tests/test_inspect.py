"""What can be pruned, and what stays whole: shares are those that torch counts on cut networks."""

import json
from typing import get_args

import numpy as np
import pytest
import torch
from oracles import Net
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

import mipp
from mipp.cli import main
from mipp.cut import apply_selection
from mipp.errors import BudgetError, ConfigError, DataError, ModelError
from mipp.graph.reasons import CATEGORIES, Category
from mipp.graph.whole import folded
from mipp.inputs import call
from mipp.pruning.inspection import GroupShare, HeadsShare, Inspection
from mipp.selection.selection import Selection

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
ROWS = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))
TOKENS = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(2))
WORDS = torch.tensor([[1, 2, 3], [4, 5, 6]])


class Attends(nn.Module):
    """A block of attention written out, over 4 tokens of 8 features."""

    def __init__(self):
        super().__init__()
        self.embed, self.qkv, self.out = nn.Linear(3, 8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.embed(x)
        q, k, v = self.qkv(x).view(len(x), 4, 3, 2, 4).permute(2, 0, 3, 1, 4)
        x = x + self.out(((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).flatten(2))
        return self.head(x.mean(1))


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right, self.head = nn.Linear(6, 7), nn.Linear(6, 9), nn.Linear(16, 2)

    def forward(self, left, right):
        return self.head(torch.cat([self.left(left), self.right(right)], 1).relu())


def plain(net, x):
    return net.head(net.second(net.first(x).relu()).relu().mean((2, 3)))


def residual(net, x):
    x = net.first(x)
    return net.head((x + net.second(x).relu()).mean((2, 3)))


def softmax(net, x):
    return net.head(net.second(net.first(x).softmax(1)).relu().mean((2, 3)))


def features(net, x):
    x = net.second(net.first(x).relu())
    return net.head(x.relu().mean((2, 3))), x


def convs(forward, width=8, **extra):
    first, second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, width, 3, padding=1)
    return Net(forward, first=first, second=second, head=nn.Linear(width, 4), **extra)


def embedded():
    table = {"table": nn.Embedding(10, 6), "first": nn.Linear(6, 5), "head": nn.Linear(5, 3)}
    return Net(lambda net, x: net.head(net.first(net.table(x)).relu().mean(1)), **table)


NETWORKS = {  # with one batch, and the layers that stay whole by category
    "plain": (lambda: convs(plain), IMAGES, {"output": ["head"]}),
    "labelled": (lambda: convs(plain), (IMAGES, torch.tensor([0, 1])), {"output": ["head"]}),
    "residual": (lambda: convs(residual), IMAGES, {"output": ["head"]}),
    "softmax": (lambda: convs(softmax), IMAGES, {"mixed": ["first"], "output": ["head"]}),
    "features": (lambda: convs(features), IMAGES, {"output": ["second", "head"]}),
    "attention": (Attends, TOKENS, {"sizes": ["qkv"], "output": ["head"]}),
    "two inputs": (Two, ((ROWS, ROWS), None), {"output": ["head"]}),
    "keywords": (Two, {"left": ROWS, "right": ROWS}, {"output": ["head"]}),
    "whole numbers": (embedded, WORDS, {"output": ["head"]}),
}


def built(name):
    torch.manual_seed(0)
    build, batch, whole = NETWORKS[name]
    return build().eval(), batch, whole


def inputs_of(batch):
    pair = isinstance(batch, tuple)
    x = batch[0] if pair else batch
    if isinstance(x, dict):
        return {name: tensor[:1] for name, tensor in x.items()}
    return tuple(tensor[:1] for tensor in x) if isinstance(x, tuple) else x[:1]


def counted(model, x):
    """What torch counts of one input: of all, and by module."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call(model, x)
    counts = {name: sum(by.values()) for name, by in counter.get_flop_counts().items()}
    return counter.get_total_flops(), counts


def cut_to(model, found, kept, x):
    """A copy in which groups that are named keep their first few channels."""
    chosen = {g.name: np.arange(kept.get(g.name, g.width)) for g in found.groups}
    widths = {group.name: group.width for group in found.groups}
    return apply_selection(model, Selection(chosen, widths, "test", {}), x)


@pytest.mark.parametrize("name", NETWORKS)
def test_shares_are_those_that_torch_counts_on_cut_networks(name):
    model, batch, _ = built(name)
    found, x = mipp.inspect(model, batch), inputs_of(batch)
    dense = counted(model, x)[0]
    weights = sum(p.numel() for p in model.parameters())
    assert (found.macs, found.params) == (dense / 2, weights)
    for group in found.groups:
        cut = cut_to(model, found, {group.name: group.least}, x)
        assert group.macs == pytest.approx(1 - counted(cut, x)[0] / dense)
        assert group.params == pytest.approx(1 - sum(p.numel() for p in cut.parameters()) / weights)
    floors = {group.name: group.least for group in found.groups}
    least = cut_to(model, found, floors, x)
    assert found.least["macs"] == pytest.approx(counted(least, x)[0] / dense)
    assert found.least["params"] == pytest.approx(
        sum(p.numel() for p in least.parameters()) / weights
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_what_stays_whole_has_the_share_of_its_layers(name):
    model, batch, whole = built(name)
    found, x = mipp.inspect(model, batch), inputs_of(batch)
    assert {part.category: sorted(part.reasons) for part in found.whole} == {
        category: sorted(layers) for category, layers in whole.items()
    }
    least = cut_to(model, found, {group.name: group.least for group in found.groups}, x)
    dense, by_module = counted(model, x)
    left = counted(least, x)[1]
    for part in found.whole:
        names = [f"{type(model).__name__}.{layer}" for layer in part.reasons]
        assert part.shares["macs"] == pytest.approx(sum(by_module[n] for n in names) / dense)
        assert part.least["macs"] == pytest.approx(sum(left[n] for n in names) / dense)


def test_products_that_nothing_shrinks_are_counted():
    found = mipp.inspect(*built("attention")[:2])
    assert found.fixed * found.macs == pytest.approx(2 * 2 * 4 * 4 * 4)  # of 2 heads, both products
    assert "in operators that nothing shrinks" in str(found)


class Encoder(nn.Module):
    """Tokens of 2 heads of 24 dimensions, of a torch attention."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(3, 48), nn.Linear(48, 5)
        self.attention = nn.MultiheadAttention(48, 2, batch_first=True)

    def forward(self, x):
        x = self.embed(x)
        return self.head((x + self.attention(x, x, x)[0]).mean(1))


def test_heads_that_data_may_make_narrower_are_named_and_nothing_is():
    tokens = torch.randn(16, 80, 3, generator=torch.Generator().manual_seed(3))  # enough to tell
    found = mipp.inspect(Encoder(), tokens)
    counted = FlopCounterMode(display=False)
    with counted:
        Encoder()(tokens[:1])
    linear = 80 * (48 * 3 + 48 * 5 // 80 + 4 * 48 * 48) + 2 * 80 * 80 * 48
    assert found.macs == linear == counted.get_total_flops() // 2
    assert found.params == sum(p.numel() for p in Encoder().parameters())
    heads = found.heads
    assert heads.sizes == {"attention": 24}
    assert heads.least == 8
    gone = 80 * 4 * 48 * 32 + 2 * 80 * 80 * 32  # 2 heads lose 16 dimensions each
    assert heads.macs == pytest.approx(gone / linear)
    assert heads.params == pytest.approx((4 * 48 * 32 + 3 * 32) / found.params)
    assert f"by up to {100 * heads.macs:.1f} % of the MACs: attention" in str(found)
    assert mipp.inspect(Encoder(), tokens, ignore=["attention"]).heads is None


def test_limits_are_those_of_prune():
    model, batch, _ = built("plain")
    found = mipp.inspect(model, batch, min_channels=2, ignore=["first"], round_to=4)
    assert {group.name: group.least for group in found.groups} == {"first": 8, "second": 4}
    pruned = mipp.prune(model, [batch.repeat(8, 1, 1, 1)], f"macs:{found.least['macs'] + 1e-9}",
                        method="l1", ignore=["first"], round_to=4, repair="none")  # fmt: skip
    assert pruned.report.macs / pruned.report.macs_dense == pytest.approx(found.least["macs"])
    with pytest.raises(ConfigError, match="ignore: pattern 'no' fits no module"):
        mipp.inspect(model, batch, ignore=["no"])
    with pytest.raises(ConfigError, match="ignore: expected a sequence of names"):
        mipp.inspect(model, batch, ignore="first")


def test_network_in_which_nothing_can_be_pruned_is_inspected_and_not_pruned():
    model = nn.Sequential(nn.Linear(6, 4))
    found = mipp.inspect(model, ROWS)
    assert (found.groups, found.least["macs"]) == ((), 1.0)
    assert found.whole[0].shares["macs"] == 1.0
    assert "nothing can be pruned" in str(found)
    with pytest.raises(ModelError, match=r"(?s)no channels to prune.*100.0 %  0: .*\n.*-> "):
        mipp.prune(model, [ROWS], method="l1")


class Sometimes(nn.Module):
    """A backbone that always runs, and a head that looks at its values."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 8))
        self.often, self.last = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        often = x[0, 0] > 0
        x = self.backbone(x)
        return self.last(self.often(x) if often else x)


def test_part_that_always_runs_is_named_where_another_does_not():
    found = mipp.inspect(Sometimes().eval(), torch.tensor([[1.0] * 6, [-1.0] * 6]))
    [part] = [part for part in found.whole if part.category == "calls"]
    assert "prune model.backbone by itself" in part.advice


def test_part_that_always_runs_is_named_where_another_never_did():
    model = Sometimes().eval()
    model.backbone.register_forward_pre_hook(lambda net, x: (x[0].abs() * -1,))
    rare = Net(lambda net, x: net.rare(x) if x.max() > 1e9 else net.model(x), model=model,
               rare=nn.Linear(6, 3))  # fmt: skip
    with pytest.raises(ModelError, match=r"or prune model\.model\.backbone by itself"):
        mipp.inspect(rare.eval(), torch.tensor([[1.0] * 6, [-1.0] * 6]))


def test_modules_that_no_call_reached_are_named():
    model = convs(plain, other=nn.Linear(4, 4)).eval()
    found = mipp.inspect(model, IMAGES)
    assert list(found.unreached) == ["other"]
    assert "No call reached: other" in str(found)
    found = mipp.inspect(model, IMAGES, calls=[lambda net, x: net.other(net(x))])
    assert not found.unreached


def test_layers_that_cannot_lose_a_side_are_named():
    found = mipp.inspect(*built("softmax")[:2])
    assert (found.no_fewer_outputs, found.no_fewer_inputs) == (
        ("first", "head"),
        ("first", "second"),
    )


@pytest.mark.parametrize(
    "example",
    [
        DataLoader(TensorDataset(IMAGES, torch.tensor([0, 1])), batch_size=2),
        [IMAGES, None],
        [IMAGES, torch.tensor([0, 1])],  # as a loader collates a batch
        [(IMAGES, torch.tensor([0, 1]))],
        [[IMAGES, None], [IMAGES, None]],
        iter([(IMAGES, None)]),
    ],
)
def test_example_may_be_a_loader_or_a_batch(example):
    model = built("plain")[0]
    assert mipp.inspect(model, example) == mipp.inspect(model, IMAGES)


def test_example_that_is_no_batch_is_refused_by_its_name():
    with pytest.raises(DataError, match=r"^example cannot be used as it is: Tensor \(3, 8, 8\)"):
        mipp.inspect(built("plain")[0], IMAGES[0])


def test_page_stays_short_however_many_groups_and_reasons_there_are():
    groups = tuple(GroupShare(f"a{'b' * i}.{i}.conv", 8 + i, 1, 0.01, 0.01) for i in range(150))
    model, batch, _ = built("softmax")
    found = mipp.inspect(model, batch)
    part = found.whole[0]
    crowded = Inspection(
        "Net", (3, 8, 8), 1, 1, found.least, groups, (part,) * len(CATEGORIES),
        HeadsShare({"a": 16, "b": 32}, 8, 0.1, 0.1), 0.1,
        ("a", "b"), ("c", "d"), {"other": "no call reached it"},
    )  # fmt: skip
    lines = str(crowded).splitlines()
    assert len(lines) < 40
    assert f"for {len(CATEGORIES) - 3} more reasons" in str(crowded)
    assert "and 140 more" in str(crowded)


def test_groups_that_differ_in_their_numbers_alone_are_one_row():
    groups = tuple(GroupShare(f"layers.{i}.conv1", 8, 1, 0.25, 0.125) for i in range(3))
    model, batch, _ = built("plain")
    found = mipp.inspect(model, batch)
    text = str(Inspection(**{**vars(found), "groups": groups}))
    assert "layers.*.conv* (3)" in text
    assert "75.0 %" in text


def test_folded_names_say_how_many_are_left_out():
    names = [f"{kind}{i}" for kind in "abcde" for i in range(3)]
    assert folded(names) == "a* (3), b* (3), c* (3) and 6 more"


def test_inspection_goes_to_json_and_to_html():
    found = mipp.inspect(*built("softmax")[:2])
    again = json.loads(json.dumps(found.to_dict()))
    assert again["whole"][0]["reasons"] == dict(found.whole[0].reasons)
    assert [group["width"] for group in again["groups"]] == [group.width for group in found.groups]
    html = found._repr_html_()
    assert all(f"<td>{group.name}</td>" in html for group in found.groups)
    assert "network&#x27;s output" in html


def test_command_prints_what_python_finds(capsys):
    given = ["inspect", "--model", "lenet5", "--channels", "1", "--classes", "10"]
    assert main([*given, "--min-channels", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {group["name"]: (group["width"], group["least"]) for group in found["groups"]} == {
        "conv1": (6, 2), "conv2": (16, 2), "fc1": (120, 2), "fc2": (84, 2)
    }  # fmt: skip
    assert main(given) == 0
    assert "4 groups of channels" in capsys.readouterr().out


def test_command_reads_checkpoints_and_networks_of_ones_own(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine_to_inspect.py").write_text(
        "from torch import nn\n\ndef boxes(size=8):\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))\n"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", "--model", "mine_to_inspect:boxes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shape"] == [3, 8, 8]
    spec = mipp.models.ModelSpec("lenet5", 10, 1, 28)
    checkpoint = mipp.Checkpoint(mipp.models.build_model(spec, seed=0), spec, None, (1, 28, 28))
    mipp.save_checkpoint(tmp_path / "net.safetensors", checkpoint)
    assert main(["inspect", "--model", "net.safetensors", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["groups"]) == 4


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--ignore", "no"], "--ignore: pattern 'no'"),
        (["--round-to", "0"], "--round-to"),
        (["--calls", "no"], "no method 'no' (--calls)"),
        (["--model", "lenet"], "model 'lenet' (--model) is unknown"),
    ],
)
def test_command_refuses_in_its_own_words(option, words, capsys):
    assert main(["inspect", "--model", "lenet5", "--channels", "1", *option]) == 2
    assert words in capsys.readouterr().err


# Advice


def test_every_category_has_its_advice():
    assert set(CATEGORIES) == set(get_args(Category))
    assert all(meaning.what and meaning.advice for meaning in CATEGORIES.values())
    assert len({meaning.what for meaning in CATEGORIES.values()}) == len(CATEGORIES)


@pytest.mark.parametrize(("kind", "words"), [("macs", "multiply-acc"), ("params", "parameters")])
def test_budget_out_of_reach_is_refused_with_what_stays_whole(kind, words):
    model, batch, _ = built("features")
    with pytest.raises(BudgetError) as refused:
        mipp.prune(model, [batch], f"{kind}:0.01", method="l1")
    text, found = str(refused.value), mipp.inspect(model, batch)
    assert len(text.splitlines()) <= 8
    assert f"share of the {words}" in text
    assert f"{100 * found.whole[0].least[kind]:.1f} %  second, head" in text
    assert "wrap it to return that only" in text


def test_units_are_refused_without_layers_that_have_none():
    model, batch, _ = built("features")
    with pytest.raises(BudgetError) as refused:
        mipp.prune(model, [batch], "ratio:0.99", method="l1")
    assert "stay whole" not in str(refused.value)


def test_option_that_keeps_the_budget_out_of_reach_is_named():
    model, batch, _ = built("plain")
    with pytest.raises(BudgetError, match="or lower min_channels, round_to or what limits keep"):
        mipp.prune(model, [batch], "macs:0.1", method="l1", min_channels=8)
    with pytest.raises(BudgetError) as refused:
        mipp.prune(model, [batch], "macs:0.001", method="l1")
    assert "lower min_channels" not in str(refused.value)


def test_command_refuses_a_budget_out_of_reach_with_the_same_summary(tmp_path, capsys):
    given = ["run", "--workdir", str(tmp_path / "work"), "--set", "choose.budget=params:0.001"]
    assert main([*given, "--set", "choose.min_channels=4"]) == 2
    text = capsys.readouterr().err
    assert "or lower choose.min_channels" in text
    assert "fc3: the network returns their channels\n           -> nothing: that is" in text
