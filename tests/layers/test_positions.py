"""Embeddings that are added to a stream: of positions, of places in two axes, of classes."""

import torch
from kinds import Kind, checks_of
from oracles import Net
from torch import nn


def positions():
    """Tokens with embeddings of their positions, in a table and in a buffer."""

    def forward(net, x):
        x = net.patch(x).flatten(2).transpose(1, 2)
        x = x + net.table(torch.arange(9)) + net.waves
        return net.head((x + net.back(net.wide(x).relu())).mean(1))

    net = Net(
        forward,
        patch=nn.Conv2d(3, 12, 3, 3),
        table=nn.Embedding(20, 12),
        wide=nn.Linear(12, 24),
        back=nn.Linear(24, 12),
        head=nn.Linear(12, 4),
    )
    net.register_buffer("waves", torch.randn(1, 9, 12))
    return net


def classes():
    """A shift of every channel by the class of a patch, from an embedding."""

    def forward(net, x):
        y = net.stem(x)
        shift = net.table((x[:, :1] > 0).long()).squeeze(1).permute(0, 3, 1, 2)
        return net.head(net.last((y + shift).relu()).mean((2, 3)))

    return Net(
        forward,
        stem=nn.Conv2d(3, 8, 3, padding=1),
        table=nn.Embedding(2, 8),
        last=nn.Conv2d(8, 8, 3),
        head=nn.Linear(8, 3),
    )


def rows_and_columns():
    """Positions of rows and of columns, concatenated and added to a map, as in DETR."""

    def forward(net, x):
        y = net.stem(x)
        h, w = y.shape[2:]
        rows = net.rows(torch.arange(h))[:, None].expand(-1, w, -1)
        columns = net.columns(torch.arange(w))[None].expand(h, -1, -1)
        place = torch.cat([columns, rows], -1).permute(2, 0, 1)
        return net.head(net.last((y + place).relu()).relu().mean((2, 3)))

    return Net(
        forward,
        stem=nn.Conv2d(3, 12, 3, padding=1),
        rows=nn.Embedding(10, 6),
        columns=nn.Embedding(10, 6),
        last=nn.Conv2d(12, 8, 3),
        head=nn.Linear(8, 3),
    )


def class_token():
    """A class token before the patches, and positions of all of them, normed."""

    def forward(net, x):
        x = net.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([net.token.expand(len(x), -1, -1), x], 1)
        x = net.norm(x + net.places(net.numbers))
        x = x + net.back(net.wide(x).relu())
        return net.head(x[:, 0] + x[:, 1:].mean(1))

    net = Net(
        forward,
        patch=nn.Conv2d(3, 12, 3, 3),
        places=nn.Embedding(10, 12),
        norm=nn.LayerNorm(12),
        wide=nn.Linear(12, 20),
        back=nn.Linear(20, 12),
        head=nn.Linear(12, 4),
    )
    net.token = nn.Parameter(torch.randn(1, 1, 12))
    net.register_buffer("numbers", torch.arange(10), persistent=False)
    return net


def projected():
    """Positions that a layer of their own projects to the width of the stream."""

    def forward(net, x):
        x = net.stem(x) + net.project(net.table.weight).tanh()
        return net.head((x + net.back(net.wide(x).relu())).mean(1))

    return Net(
        forward,
        stem=nn.Linear(5, 12),
        table=nn.Embedding(7, 4),
        project=nn.Linear(4, 12),
        wide=nn.Linear(12, 16),
        back=nn.Linear(16, 12),
        head=nn.Linear(12, 3),
    )


KINDS = {
    "positions": Kind(positions, (3, 9, 9), 0.04),
    "classes": Kind(classes, (3, 6, 6), 0.07),
    "rows and columns": Kind(rows_and_columns, (3, 8, 8), 0.08),
    "class token": Kind(class_token, (3, 9, 9), 0.04),
    "projected": Kind(projected, (7, 5), 0.02),
}


(
    test_cut_network_is_the_dense_one_without_the_dropped_channels,
    test_one_channel_each_costs_as_little_as_it_should,
    test_default_method_and_repair_meet_the_budget_train_and_come_back,
) = checks_of(KINDS)
