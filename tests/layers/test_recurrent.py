"""Recurrent layers and cells: what they read is cut and refitted, what they remember stays."""

import pytest
import torch
from kinds import Kind, built, checks_of
from oracles import Net
from torch import nn

import mipp
from mipp.graph import build_graph


def of_columns(layer):
    """Maps of which a recurrent layer reads the columns, one after the other."""

    def forward(net, x):
        columns = net.second(net.first(x).relu()).relu().mean(2)
        columns = columns.transpose(1, 2) if net.layer.batch_first else columns.permute(2, 0, 1)
        steps = net.layer(columns)[0]
        return net.head(steps.mean(1 if net.layer.batch_first else 0))

    width = (layer.proj_size or layer.hidden_size) * (2 if layer.bidirectional else 1)
    return Net(
        forward,
        first=nn.Conv2d(3, 12, 3, padding=1),
        second=nn.Conv2d(12, 10, 3, padding=1),
        layer=layer,
        head=nn.Linear(width, 3),
    )


def of_tokens():
    """A GRU that reads a normed residual stream, and one that reads what the first remembers."""

    def forward(net, x):
        x = net.stem(x)
        x = net.norm(x + net.back(net.wide(x).relu()))
        return net.head(net.other(net.one(x)[0])[1][0])

    return Net(
        forward,
        stem=nn.Linear(5, 12),
        wide=nn.Linear(12, 16),
        back=nn.Linear(16, 12),
        norm=nn.LayerNorm(12),
        one=nn.GRU(12, 4, batch_first=True),
        other=nn.GRU(4, 4, batch_first=True),
        head=nn.Linear(4, 3),
    )


def of_both():
    """An LSTM over a concatenation of two branches, and over its last state a perceptron."""

    def forward(net, x):
        x = x.transpose(1, 2)
        y = torch.cat([net.near(x).relu(), net.far(x).tanh()], 1).transpose(1, 2)
        return net.head(net.hidden(net.layer(y)[1][0][-1]).relu())

    return Net(
        forward,
        near=nn.Conv1d(5, 8, 3, padding=1),
        far=nn.Conv1d(5, 6, 3, padding=3, dilation=3),
        layer=nn.LSTM(14, 5, batch_first=True),
        hidden=nn.Linear(5, 10),
        head=nn.Linear(10, 2),
    )


def step_by_step(cell):
    """A cell that is called for every token, of which an LSTM's gives two states."""

    def forward(net, x):
        state = None
        for token in net.wide(net.stem(x).relu()).relu().unbind(1):
            state = net.cell(token, state)
        return net.head(state[0] if isinstance(state, tuple) else state)

    return Net(
        forward,
        stem=nn.Linear(5, 16),
        wide=nn.Linear(16, 12),
        cell=cell,
        head=nn.Linear(cell.hidden_size, 3),
    )


def stacked_cells():
    """Two cells, of which the second reads what the first remembers beside the token."""

    def forward(net, x):
        low = high = x.new_zeros(len(x), 4)
        for token in net.norm(net.stem(x)).unbind(1):
            low = net.low(token, low)
            high = net.high(torch.cat([token, low], 1), high)
        return net.head(high)

    return Net(
        forward,
        stem=nn.Linear(5, 14),
        norm=nn.LayerNorm(14),
        low=nn.GRUCell(14, 4),
        high=nn.GRUCell(18, 4),
        head=nn.Linear(4, 3),
    )


def refined():
    """A map that a cell refines pixel by pixel, three times with the same features."""

    def forward(net, x):
        y = net.stem(x).relu()
        pixels = net.context(y).relu().flatten(2).transpose(1, 2).flatten(0, 1)
        state = net.start(y).tanh().flatten(2).transpose(1, 2).flatten(0, 1)
        for _ in range(3):
            state = net.cell(pixels, state)
        return net.head(state.unflatten(0, (len(x), -1)).mean(1))

    return Net(
        forward,
        stem=nn.Conv2d(3, 8, 3, 2),
        context=nn.Conv2d(8, 12, 1),
        start=nn.Conv2d(8, 4, 1),
        cell=nn.GRUCell(12, 4),
        head=nn.Linear(4, 3),
    )


TOKENS = (6, 5)
LAYERS = {
    "lstm": Kind(lambda: of_columns(nn.LSTM(10, 6)), (3, 8, 8), 0.04),
    "lstm, projected": Kind(
        lambda: of_columns(nn.LSTM(10, 6, proj_size=3, batch_first=True)), (3, 8, 8), 0.04
    ),
    "gru, both directions": Kind(
        lambda: of_columns(nn.GRU(10, 4, 2, batch_first=True, bidirectional=True)), (3, 8, 8), 0.06
    ),
    "rnn, without bias": Kind(
        lambda: of_columns(nn.RNN(10, 4, nonlinearity="relu", bias=False)), (3, 8, 8), 0.03
    ),
    "gru of tokens": Kind(of_tokens, TOKENS, 0.23),
    "lstm of two branches": Kind(of_both, TOKENS, 0.3),
}
CELLS = {
    "lstm cell": Kind(lambda: step_by_step(nn.LSTMCell(12, 4)), TOKENS, 0.17),
    "gru cell": Kind(lambda: step_by_step(nn.GRUCell(12, 4)), TOKENS, 0.15),
    "rnn cell": Kind(lambda: step_by_step(nn.RNNCell(12, 4, bias=False)), TOKENS, 0.09),
    "stacked cells": Kind(stacked_cells, TOKENS, 0.32),
    "refined": Kind(refined, (3, 8, 8), 0.24),
}


(
    test_cut_network_is_the_dense_one_without_the_dropped_channels,
    test_one_channel_each_costs_as_little_as_it_should,
    test_default_method_and_repair_meet_the_budget_train_and_come_back,
) = checks_of(LAYERS | CELLS)


@pytest.mark.parametrize("name", [*LAYERS, *CELLS])
def test_what_lost_inputs_is_refitted(name):
    model, x = built((LAYERS | CELLS)[name], 0)
    pruner = mipp.Pruner(model, [x], images=len(x))
    plan = pruner.plan("ratio:0.5")
    bare, found = (pruner.cut(plan, repair) for repair in (mipp.NoRepair(), mipp.Refit()))
    weights = [key for key in model.state_dict() if key.split(".")[-1].startswith("weight_ih")]
    cut = [
        key
        for key in weights
        if bare.model.state_dict()[key].shape != model.state_dict()[key].shape
    ]
    assert cut
    assert not found.report.unfitted
    for key in cut:
        assert not torch.equal(found.model.state_dict()[key], bare.model.state_dict()[key])


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_cell_that_is_given_a_single_vector_stays_whole(cell):
    def forward(net, x):
        state = net.cell(net.stem(x.mean(0)))
        return net.head(net.wide(x)) + net.last(state[0] if isinstance(state, tuple) else state)

    layers = {"stem": nn.Linear(5, 8), "wide": nn.Linear(5, 8), "head": nn.Linear(8, 2)}
    layers["last"] = nn.Linear(4, 2)
    model = Net(forward, **layers, cell=cell(8, 4)).double().eval()
    graph = build_graph(model, torch.randn(1, 5).double())
    assert "as a single vector" in graph.left_whole["stem"]
