"""Tensors that forward fills part by part: slices, places, rows of a mask."""

import torch
import torch.nn.functional as F
from kinds import Kind, checks_of
from oracles import Net
from torch import nn

from mipp.graph import build_graph


def layers(**more):
    own = {"a": nn.Conv2d(3, 8, 3, padding=1), "b": nn.Conv2d(3, 8, 3, padding=1)}
    return own | {"c": nn.Conv2d(8, 6, 1), "head": nn.Linear(6, 3)} | more


def head(net, y):
    return net.head(net.c(y).relu().mean((2, 3)))


def halves_of_channels():
    """A concatenation, written by slices into a tensor of zeros."""

    def forward(net, x):
        a, b = net.a(x).relu(), net.b(x).tanh()
        y = x.new_zeros(len(x), a.shape[1] + b.shape[1], *x.shape[2:])
        y[:, : a.shape[1]] = a
        y[:, a.shape[1] :] = b
        return head(net, y)

    return Net(forward, **layers(c=nn.Conv2d(16, 6, 1)))


def rows_in_turn():
    """Rows of a map from two layers in turn."""

    def forward(net, x):
        a, b = net.a(x).relu(), net.b(x).tanh()
        y = torch.empty_like(a)
        y[:, :, ::2], y[:, :, 1::2] = a[:, :, ::2], b[:, :, 1::2]
        return head(net, y)

    return Net(forward, **layers())


def inner_places():
    """The inner part of a map, within a frame of constants."""

    def forward(net, x):
        y = torch.full((len(x), net.a.out_channels, 8, 8), 0.3, dtype=x.dtype)
        y[:, :, 2:6, 2:6] = net.a(x)[:, :, 2:6, 2:6].relu()
        return head(net, y)

    return Net(forward, **{name: layer for name, layer in layers().items() if name != "b"})


def blank_border():
    """A map whose border is set to zero, and one whose first column repeats the second."""

    def forward(net, x):
        a, b = net.a(x), net.b(x)
        a[:, :, :2] = 0
        b[..., 0] = b[..., 1].detach()
        return head(net, torch.cat([a.relu(), b], 1))

    return Net(forward, **layers(c=nn.Conv2d(16, 6, 1)))


def masked_tokens():
    """Tokens that take the place of a learned one, as where an image is seen in part."""

    def forward(net, x):
        tokens = net.a(x).relu().flatten(2).transpose(1, 2)
        y = net.token.expand_as(tokens).clone()
        seen = torch.arange(tokens.shape[1]) % 3 > 0
        y[:, seen] = tokens[:, seen]
        return net.head(net.inner(y).relu().mean(1))

    net = Net(
        forward,
        a=nn.Conv2d(3, 8, 3, padding=1),
        inner=nn.Linear(8, 6),
        head=nn.Linear(6, 3),
    )
    net.token = nn.Parameter(torch.randn(1, 1, 8))
    return net


def experts_in_turn():
    """Tokens that go to one of two layers by their place, as in a mixture of experts."""

    def forward(net, x):
        tokens = net.stem(x).flatten(2).transpose(1, 2)
        y = tokens.flatten(0, 1)
        first = torch.arange(len(y)) % 2 == 0
        z = torch.zeros_like(y)
        z[first], z[~first] = net.one(y[first]).relu(), net.two(y[~first]).relu()
        return net.head((tokens + z.view_as(tokens)).mean(1))

    return Net(
        forward,
        stem=nn.Conv2d(3, 8, 3),
        one=nn.Linear(8, 8),
        two=nn.Linear(8, 8),
        head=nn.Linear(8, 3),
    )


def focal():
    """Context by levels of a projection that is split by the width of what it projects."""

    def forward(net, x):
        y = net.stem(x)
        query, context, gates = net.f(y).split([y.shape[1], y.shape[1], 2], 1)
        context = net.level(context)
        context = context * gates[:, :1] + F.gelu(context.mean((2, 3), keepdim=True)) * gates[:, 1:]
        return head(net, y + net.out(query * net.h(context)))

    return Net(
        forward,
        stem=nn.Conv2d(3, 8, 1),
        f=nn.Conv2d(8, 18, 1),
        level=nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        h=nn.Conv2d(8, 8, 1),
        out=nn.Conv2d(8, 8, 1),
        c=nn.Conv2d(8, 6, 1),
        head=nn.Linear(6, 3),
    )


KINDS = {
    "halves of channels": Kind(halves_of_channels, (3, 8, 8), 0.11),
    "rows in turn": Kind(rows_in_turn, (3, 8, 8), 0.12),
    "inner places": Kind(inner_places, (3, 8, 8), 0.11),
    "blank border": Kind(blank_border, (3, 8, 8), 0.12),
    "masked tokens": Kind(masked_tokens, (3, 6, 6), 0.11),
    "experts in turn": Kind(experts_in_turn, (3, 8, 8), 0.11),
    "focal": Kind(focal, (3, 8, 8), 0.05),
}


(
    test_cut_network_is_the_dense_one_without_the_dropped_channels,
    test_one_channel_each_costs_as_little_as_it_should,
    test_default_method_and_repair_meet_the_budget_train_and_come_back,
) = checks_of(KINDS)


def test_expert_that_gets_no_image_stays_whole():
    def forward(net, x):
        y = net.stem(x)
        first = torch.arange(len(x)) % 2 == 0
        z = torch.zeros_like(y)
        z[first], z[~first] = net.one(y[first]).relu(), net.two(y[~first]).relu()
        return head(net, y + z)

    more = {name: nn.Conv2d(8, 8, 3, padding=1) for name in ("stem", "one", "two")}
    model = Net(forward, **layers(**more)).double().eval()
    graph = build_graph(model, torch.randn(1, 8, 8, 8).double())
    assert graph.widths == {"c": 6}
