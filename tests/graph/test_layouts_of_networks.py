"""Channels laid out in ways that networks of today have: each kind by three small members."""

from functools import partial

import torch
from kinds import Kind, built, checks_of
from oracles import Net
from torch import nn

from mipp.graph import build_graph


def conv(i, o, size=3):
    return nn.Conv2d(i, o, size, padding=size // 2)


# Group-norms of more groups than channels in each: a whole group is a unit


def grouped_chain():
    return nn.Sequential(
        conv(3, 24),
        nn.GroupNorm(12, 24),
        nn.ReLU(),
        conv(24, 16),
        nn.GroupNorm(8, 16),
        nn.ReLU(),
        conv(16, 2),
    )


def grouped_stream():
    def forward(net, x):
        x = net.stem(x)
        x = x + net.back(net.norm(x).relu())
        return net.head(net.last(x).relu().mean(2))

    return Net(
        forward,
        stem=nn.Conv1d(2, 16, 3, padding=1),
        norm=nn.GroupNorm(8, 16, affine=False),
        back=nn.Conv1d(16, 16, 3, padding=1),
        last=nn.GroupNorm(8, 16),
        head=nn.Linear(16, 3),
    )


def grouped_concatenation():
    """Parts that end within a group of the norm."""

    def forward(net, x):
        x = torch.cat([net.one(x), net.other(x)], 1)
        return net.last(net.norm(x).relu())

    return Net(
        forward,
        one=conv(3, 9),
        other=conv(3, 15),
        norm=nn.GroupNorm(12, 24),
        last=conv(24, 4),
    )


# Scales of channels that several layers make, each at its own places


def with_scale(net, width):
    net.scale = nn.Parameter(torch.rand(width) + 0.5)
    return net


def scaled_class_token():
    """A class token made by a layer of its own beside the others, as in XCiT's class attention."""

    def forward(net, x):
        x = net.stem(x).flatten(2).transpose(1, 2)
        token = net.token(x.mean(1, keepdim=True))
        x = net.scale * torch.cat([token, net.other(x)], 1)
        return net.head(x[:, 0] + net.mix(x[:, 1:]).relu().mean(1))

    net = Net(
        forward,
        stem=nn.Conv2d(3, 12, 2, 2),
        token=nn.Linear(12, 10),
        other=nn.Linear(12, 10),
        mix=nn.Linear(10, 10),
        head=nn.Linear(10, 3),
    )
    return with_scale(net, 10)


def scaled_residual():
    """A scaled step of which one layer makes the first token, and the others are the stream's."""

    def forward(net, x):
        x = net.stem(x).flatten(2).transpose(1, 2)
        step = torch.cat([net.inner(x[:, :1]).relu(), x[:, 1:]], 1)
        x = x + net.scale * step
        return net.head(net.up(x).relu().mean(1))

    net = Net(
        forward,
        stem=nn.Conv2d(3, 12, 2, 2),
        inner=nn.Linear(12, 12),
        up=nn.Linear(12, 8),
        head=nn.Linear(8, 3),
    )
    return with_scale(net, 12)


def scaled_halves_of_maps():
    """Maps whose left and right half other convolutions make."""

    def forward(net, x):
        x = net.stem(x).relu()
        both = torch.cat([net.left(x), net.right(x)], 3)
        return net.head((both * net.scale[:, None, None]).relu().mean((2, 3)))

    net = Net(forward, stem=conv(3, 8), left=conv(8, 10), right=conv(8, 10), head=nn.Linear(10, 3))
    return with_scale(net, 10)


# Parts of unequal lengths, which the module keeps


def split_as(parts):
    """A gated convolution, as in MambaOut: some of the values are convolved, the others are not."""

    def forward(net, x):
        gate, value, mixed = torch.split(net.up(x.movedim(1, -1)), net.parts, -1)
        mixed = net.depthwise(mixed.movedim(-1, 1)).movedim(1, -1)
        return net.down(gate.relu() * torch.cat((value, mixed), -1)).mean((1, 2))

    gate, _, mixed = parts
    net = Net(
        forward,
        up=nn.Linear(3, sum(parts)),
        depthwise=nn.Conv2d(mixed, mixed, 3, padding=1, groups=mixed),
        down=nn.Linear(gate, 4),
    )
    net.parts = parts
    return net


def split_in_two():
    """Two parts, of which each has a number of its own."""

    def forward(net, x):
        short, long = net.up(x).relu().split([net.few, net.many], 1)
        return net.of_short(short) + net.of_long(long)

    net = Net(forward, up=conv(3, 20), of_short=conv(6, 4), of_long=conv(14, 4))
    net.few, net.many = 6, 14
    return net


# Heads whose channels lie apart where they are read: (size, heads) in place of (heads, size)


def interleaved(heads, attend):
    """Attention as in NesT, whose outputs are laid out in another order than its inputs."""

    def forward(net, x):
        x = net.stem(x).flatten(2).transpose(1, 2)
        images, tokens, width = x.shape
        parts = net.qkv(x).reshape(images, tokens, 3, net.heads, width // net.heads)
        y = attend(*parts.permute(2, 0, 3, 1, 4)).permute(0, 2, 3, 1)
        return net.head((x + net.back(y.reshape(images, tokens, width))).mean(1))

    net = Net(
        forward,
        stem=nn.Conv2d(3, 24, 2, 2),
        qkv=nn.Linear(24, 72),
        back=nn.Linear(24, 24),
        head=nn.Linear(24, 3),
    )
    net.heads = heads
    return net


def by_hand(q, k, v):
    return (q @ k.transpose(-2, -1) / 2).softmax(-1) @ v


# What all heads share: one number for each feature of a head, of whatever head


def shared_by_heads(share, *shape):
    """Attention with heads, as in DINOv3, whose q and k meet the same numbers in every head."""

    def forward(net, x):
        x = net.stem(x).flatten(2).transpose(1, 2)
        q, k, v = net.qkv(x).reshape(len(x), 9, 3, net.heads, -1).permute(2, 0, 3, 1, 4)
        y = by_hand(share(net, q), share(net, k), v).transpose(1, 2)
        return net.head((x + net.back(y.flatten(2))).mean(1))

    net = Net(
        forward,
        stem=nn.Conv2d(3, 24, 2, 2),
        qkv=nn.Linear(24, 96),
        back=nn.Linear(32, 24),
        head=nn.Linear(24, 3),
    )
    net.heads = 8
    net.shared = nn.Parameter(torch.rand(shape) + 0.5)
    return net


def turned(net, x, first=0):
    one, other = x[:, :, first:].chunk(2, -1)
    cos, sin = net.shared[first:].cos(), net.shared[first:].sin()
    y = x[:, :, first:] * cos + torch.cat([-other, one], -1) * sin
    return torch.cat([x[:, :, :first], y], 2)


# Heads of whatever size the rest is: forward runs with a wrong number of them, too


def linear_attention(net, x):
    """Queries that meet a sum over all places, as where diffusion models attend to images."""
    images, _, height, width = x.shape
    parts = net.qkv(x).chunk(3, 1)
    q, k, v = (part.reshape(images, net.parts, -1, height * width) for part in parts)
    sums = torch.einsum("n h d p, n h e p -> n h d e", k.softmax(-1), v)
    found = torch.einsum("n h d e, n h d p -> n h e p", sums, q.softmax(-2))
    return x + net.back(found.reshape(images, -1, height, width))


def normed_values(net, x):
    """Values of unit length in each head."""
    images, _, height, width = x.shape
    value = net.qkv(x).reshape(images, net.parts, -1, height, width)
    value = nn.functional.normalize(value, dim=2).flatten(1, 2)
    return x + net.back(value)


def attended_places(net, x):
    """Attention over places, with the heads beside the images."""
    images, _, height, width = x.shape
    q, k, v = (
        part.reshape(images * net.parts, -1, height * width) for part in net.qkv(x).chunk(3, 1)
    )
    found = v @ (q.transpose(1, 2) @ k / 2).softmax(-1).transpose(1, 2)
    return x + net.back(found.reshape(images, -1, height, width))


def of_any_size(attend, times=3):
    """One of these in a chain, whose module keeps the number of heads among other numbers."""

    def forward(net, x):
        return net.head(attend(net, net.stem(x)).relu().mean((2, 3)))

    net = Net(
        forward,
        stem=conv(3, 10),
        qkv=conv(10, 16 * times, 1),
        back=conv(16, 10, 1),
        head=nn.Linear(10, 3),
    )
    net.depth, net.parts = 2, 4
    return net


KINDS = {
    "group norm, chain": Kind(grouped_chain, (3, 6, 6), 0.15),
    "group norm, stream": Kind(grouped_stream, (2, 12), 0.15),
    "group norm, concatenation": Kind(grouped_concatenation, (3, 6, 6), 0.3),
    "scaled class token": Kind(scaled_class_token, (3, 6, 6), 0.15),
    "scaled residual": Kind(scaled_residual, (3, 6, 6), 0.15),
    "scaled halves of maps": Kind(scaled_halves_of_maps, (3, 6, 6), 0.15),
    "split in three": Kind(lambda: split_as((16, 10, 6)), (3, 6, 6), 0.2),
    "split in three, fewer convolved": Kind(lambda: split_as([18, 14, 4]), (3, 6, 6), 0.2),
    "split in two": Kind(split_in_two, (3, 6, 6), 0.15),
    "gain of all heads": Kind(
        lambda: shared_by_heads(lambda net, x: x * net.shared, 4), (3, 6, 6), 0.2
    ),
    "rotary positions": Kind(lambda: shared_by_heads(turned, 9, 4), (3, 6, 6), 0.2),
    "rotary positions of all but the first": Kind(
        lambda: shared_by_heads(partial(turned, first=1), 9, 4), (3, 6, 6), 0.2
    ),
    "linear attention": Kind(lambda: of_any_size(linear_attention), (3, 6, 6), 0.4),
    "normed values": Kind(lambda: of_any_size(normed_values, 1), (3, 6, 6), 0.4),
    "attended places": Kind(lambda: of_any_size(attended_places), (3, 6, 6), 0.4),
    "interleaved, two heads": Kind(lambda: interleaved(2, by_hand), (3, 6, 6), 0.5),
    "interleaved, four heads": Kind(lambda: interleaved(4, by_hand), (3, 6, 6), 0.2),
    "interleaved, fused": Kind(
        lambda: interleaved(4, nn.functional.scaled_dot_product_attention), (3, 6, 6), 0.2
    ),
}


(
    test_cut_network_is_the_dense_one_without_the_dropped_channels,
    test_one_channel_each_costs_as_little_as_it_should,
    test_default_method_and_repair_meet_the_budget_train_and_come_back,
) = checks_of(KINDS)


def test_whole_groups_of_a_norm_are_its_units():
    model, x = built(KINDS["group norm, chain"], 0)
    graph = build_graph(model, x[:1])
    assert dict(graph.widths) == {"3": 8, "0": 12}
    [made] = graph.groups["0"].producers
    assert made.features.tolist() == [[2 * j, 2 * j + 1] for j in range(12)]


def test_heads_that_share_a_number_go_alone():
    for name in ("gain of all heads", "rotary positions", "rotary positions of all but the first"):
        model, x = built(KINDS[name], 0)
        assert build_graph(model, x[:1]).widths == {"stem": 24, "qkv": 8}, name
