"""What every kind of layer has to get right: one row a kind, from one table."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from oracles import unfolded_rows
from torch import nn

from mipp.evaluation import evaluating
from mipp.layers import layer_of
from mipp.layers.padded_shortcut import PaddedShortcut
from mipp.vision import torchvision

swin = torchvision.models.swin_transformer


@dataclass(frozen=True)
class Row:
    """A kind, a module of it, and the shape of an input."""

    kind: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]


ROWS = {
    "conv 1d": Row("conv", lambda: nn.Conv1d(6, 4, 3), (2, 6, 9)),
    "conv": Row("conv", lambda: nn.Conv2d(6, 4, 3, padding=1), (2, 6, 8, 7)),
    "conv without bias": Row("conv", lambda: nn.Conv2d(6, 4, 1, bias=False), (2, 6, 5, 5)),
    "conv, strided": Row(
        "conv", lambda: nn.Conv2d(6, 4, (3, 5), (2, 1), (0, 2), (2, 1)), (2, 6, 11, 9)
    ),
    "conv, reflected": Row(
        "conv", lambda: nn.Conv2d(6, 4, 3, padding=1, padding_mode="reflect"), (2, 6, 8, 7)
    ),
    "conv 3d": Row("conv", lambda: nn.Conv3d(6, 4, 3, padding=1), (2, 6, 4, 5, 6)),
    "conv 1d, strided": Row(
        "conv",
        lambda: nn.Conv1d(6, 4, 4, 3, 2, 2, padding_mode="circular"),
        (2, 6, 17),
    ),
    "conv 1d, replicated": Row(
        "conv", lambda: nn.Conv1d(6, 4, 3, padding=1, padding_mode="replicate"), (2, 6, 7)
    ),
    "conv 3d, reflected": Row(
        "conv",
        lambda: nn.Conv3d(6, 4, (1, 3, 2), (1, 2, 1), (0, 1, 1), padding_mode="reflect"),
        (2, 6, 3, 5, 4),
    ),
    "grouped conv": Row("grouped conv", lambda: nn.Conv2d(8, 12, 3, groups=4), (2, 8, 6, 6)),
    "depthwise conv": Row(
        "grouped conv", lambda: nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False), (2, 6, 5, 5)
    ),
    "grouped conv 1d": Row("grouped conv", lambda: nn.Conv1d(6, 9, 3, groups=3), (2, 6, 8)),
    "transposed conv": Row(
        "transposed conv", lambda: nn.ConvTranspose2d(6, 4, 3, 2, 1), (2, 6, 5, 5)
    ),
    "transposed conv, dilated": Row(
        "transposed conv",
        lambda: nn.ConvTranspose2d(6, 4, (3, 2), (3, 1), (1, 0), (2, 0), dilation=(2, 3)),
        (2, 6, 4, 5),
    ),
    "transposed conv 1d": Row(
        "transposed conv", lambda: nn.ConvTranspose1d(6, 4, 4, 2, bias=False), (2, 6, 5)
    ),
    "transposed conv 3d": Row(
        "transposed conv",
        lambda: nn.ConvTranspose3d(6, 4, (1, 3, 2), 2, (0, 1, 1), output_padding=1),
        (2, 6, 3, 2, 4),
    ),
    "grouped transposed conv": Row(
        "grouped transposed conv",
        lambda: nn.ConvTranspose2d(8, 12, 3, 2, 1, 1, groups=4),
        (2, 8, 4, 5),
    ),
    "depthwise transposed conv": Row(
        "grouped transposed conv",
        lambda: nn.ConvTranspose1d(6, 6, 3, groups=6, bias=False),
        (2, 6, 5),
    ),
    "linear": Row("linear", lambda: nn.Linear(7, 5), (3, 7)),
    "linear over tokens": Row("linear", lambda: nn.Linear(7, 5, bias=False), (3, 6, 7)),
    "batch norm": Row("batch norm", lambda: nn.BatchNorm2d(6), (3, 6, 4, 4)),
    "batch norm 1d": Row("batch norm", lambda: nn.BatchNorm1d(6, affine=False), (4, 6)),
    "batch norm 3d": Row(
        "batch norm", lambda: nn.BatchNorm3d(6, track_running_stats=False), (2, 6, 3, 3, 3)
    ),
    "synchronised batch norm": Row("batch norm", lambda: nn.SyncBatchNorm(6), (3, 6, 4, 4)),
    "group norm": Row("group norm", lambda: nn.GroupNorm(3, 6), (2, 6, 4, 4)),
    "group norm 1d": Row("group norm", lambda: nn.GroupNorm(4, 8, affine=False), (2, 8, 5)),
    "group norm, few groups": Row("group norm", lambda: nn.GroupNorm(2, 8), (2, 8, 4, 4)),
    "group norm, one group": Row("group norm", lambda: nn.GroupNorm(1, 6), (2, 6, 3, 2, 2)),
    "group norm of each channel": Row("group norm", lambda: nn.GroupNorm(6, 6), (2, 6, 4, 4)),
    "instance norm": Row("instance norm", lambda: nn.InstanceNorm2d(6), (2, 6, 4, 4)),
    "instance norm 1d": Row(
        "instance norm", lambda: nn.InstanceNorm1d(6, track_running_stats=True), (2, 6, 5)
    ),
    "instance norm 3d": Row(
        "instance norm", lambda: nn.InstanceNorm3d(6, affine=True), (2, 6, 3, 3, 3)
    ),
    "layer norm": Row("layer norm", lambda: nn.LayerNorm(6), (2, 5, 6)),
    "layer norm without factors": Row(
        "layer norm", lambda: nn.LayerNorm(6, elementwise_affine=False), (2, 5, 6)
    ),
    "rms norm": Row("layer norm", lambda: nn.RMSNorm(6, eps=1e-5), (2, 5, 6)),
    "attention": Row(
        "attention", lambda: nn.MultiheadAttention(12, 3, batch_first=True), (2, 5, 12)
    ),
    "attention, tokens first": Row("attention", lambda: nn.MultiheadAttention(12, 3), (5, 2, 12)),
    "attention that adds a key": Row(
        "attention", lambda: nn.MultiheadAttention(12, 3, add_zero_attn=True), (5, 2, 12)
    ),
    "window attention": Row(
        "window attention",
        lambda: swin.ShiftedWindowAttention(12, [4, 4], [2, 2], 3),
        (2, 6, 7, 12),
    ),
    "window attention 2": Row(
        "window attention",
        lambda: swin.ShiftedWindowAttentionV2(12, [4, 4], [2, 2], 3),
        (2, 6, 7, 12),
    ),
    "shortcut": Row("shortcut", lambda: PaddedShortcut(4, 8), (2, 4, 7, 6)),
    "lstm": Row("recurrent", lambda: nn.LSTM(6, 3, batch_first=True), (2, 5, 6)),
    "gru, both directions": Row(
        "recurrent", lambda: nn.GRU(6, 3, 2, bidirectional=True, batch_first=True), (2, 5, 6)
    ),
    "lstm cell": Row("recurrent cell", lambda: nn.LSTMCell(6, 3), (4, 6)),
    "gru cell": Row("recurrent cell", lambda: nn.GRUCell(6, 3), (4, 6)),
    "rnn cell without bias": Row(
        "recurrent cell", lambda: nn.RNNCell(6, 3, bias=False, nonlinearity="relu"), (4, 6)
    ),
    "embedding": Row("embedding", lambda: nn.Embedding(7, 6), (2, 5)),
    "prelu": Row("prelu", lambda: nn.PReLU(5), (2, 5, 4, 4)),
}


def built(name, seed=0):
    """The adapter of a row's module with lively weights in double precision, and an input."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = ROWS[name].build().double().eval()
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point() and not isinstance(module, PaddedShortcut):
                tensor.data.uniform_(0.3, 1.7)
        x = torch.randn(ROWS[name].shape).double()
        if isinstance(module, nn.Embedding):
            x = torch.randint(module.num_embeddings, ROWS[name].shape)
    return layer_of(module), x


def roles(*wanted):
    return [name for name in ROWS if built(name)[0].role in wanted]


HEADS = [name for name in ROWS if built(name)[0].heads() is not None]
INNER = [name for name in ROWS if built(name)[0].inner]
MADE = [name for name in roles("makes") if name not in INNER]  # both sides can be looked at
READ = [name for name in roles("makes") if built(name)[0].inputs.features]
SAMPLED = [name for name in ROWS if built(name)[0].sampled]


def call(layer, x):
    """What the layer's module makes of an input, with gates on its parts."""
    with torch.no_grad(), evaluating(layer.module):
        output = layer.module(*layer.with_input((), x))
    return output[0] if isinstance(output, tuple) else output


def cut(layer, side, gone):
    """The adapter of a copy without these features."""
    copied = layer_of(copy.deepcopy(layer.module))
    copied.cut(side, gone)
    copied.settle()
    return layer_of(copied.module)


def without(x, axis, gone):
    kept = [i for i in range(x.shape[axis]) if i not in set(gone.tolist())]
    return x.index_select(axis, torch.tensor(kept))


def drawn(side, seed):
    """Features of about half of a side's units, never all."""
    rng = np.random.default_rng(seed)
    units = side.each()
    return np.sort(units[rng.permutation(len(units))[: len(units) // 2]].ravel())


@pytest.mark.parametrize("name", ROWS)
def test_kind_is_known_by_its_module(name):
    layer, _ = built(name)
    assert layer.kind == ROWS[name].kind


@pytest.mark.parametrize("name", READ)
def test_cut_of_inputs_is_zero_inputs(name, seed):
    layer, x = built(name, seed)
    side = layer.inputs
    gone = drawn(side, seed)
    zeroed = x.index_fill(side.axis, torch.from_numpy(gone), 0.0)
    found = call(cut(layer, "inputs", gone), without(x, side.axis, gone))
    torch.testing.assert_close(found, call(layer, zeroed))
    assert cut(layer, "inputs", gone).inputs.features == side.features - len(gone)


@pytest.mark.parametrize("name", MADE)
def test_cut_of_outputs_leaves_the_other_outputs(name, seed):
    layer, x = built(name, seed)
    gone = drawn(layer.outputs, seed)
    found = cut(layer, "outputs", gone)
    torch.testing.assert_close(call(found, x), without(call(layer, x), layer.outputs.axis, gone))
    assert found.outputs.features == layer.outputs.features - len(gone)


def units_gone(layer, side, seed):
    """Features of some units on one side, and those of the same units on the other."""
    sides = {"inputs": layer.inputs, "outputs": layer.outputs}
    chosen = np.isin(sides[side].each(), drawn(sides[side], seed)).any(1)
    return sides["inputs"].each()[chosen].ravel(), sides["outputs"].each()[chosen].ravel()


@pytest.mark.parametrize("side", ["inputs", "outputs"])
@pytest.mark.parametrize("name", [n for n in roles("carries", "both") if not built(n)[0].couples])
def test_carrier_without_some_units_computes_the_others_as_before(name, side, seed):
    layer, x = built(name, seed)
    read, made = units_gone(layer, side, seed)
    found = cut(layer, side, read if side == "inputs" else made)
    zeroed = x.index_fill(layer.inputs.axis, torch.from_numpy(read), 0.0)
    expected = without(call(layer, zeroed), layer.outputs.axis, made)
    torch.testing.assert_close(call(found, without(x, layer.inputs.axis, read)), expected)


@pytest.mark.parametrize("side", ["inputs", "outputs"])
@pytest.mark.parametrize("name", ["grouped conv", "grouped conv 1d"])
def test_index_of_every_group_can_go_from_one_side(name, side, seed):
    layer, x = built(name, seed)
    whole = layer.inputs if side == "inputs" else layer.outputs
    gone = whole.each()[:, seed % 2]
    found = cut(layer, side, gone)
    if side == "inputs":
        expected = call(layer, x.index_fill(1, torch.from_numpy(gone), 0.0))
        x = without(x, 1, gone)
    else:
        expected = without(call(layer, x), 1, gone)
    torch.testing.assert_close(call(found, x), expected)
    assert counted(found) < counted(layer)


@pytest.mark.parametrize("side", ["inputs", "outputs"])
@pytest.mark.parametrize("name", [n for n in roles("carries") if built(n)[0].couples])
def test_norm_over_features_is_one_of_the_features_kept(name, side, seed):
    layer, x = built(name, seed)
    gone = drawn(layer.outputs, seed)
    axis = layer.outputs.axis
    some = without(x, axis, gone).movedim(axis, -1)
    groups = getattr(layer.module, "num_groups", 1)
    parts = some.unflatten(-1, (groups, -1))
    over = (-1,) if axis == -1 else (*range(1, x.ndim - 1), -1)
    mean = 0.0 if isinstance(layer.module, nn.RMSNorm) else parts.mean(over, keepdim=True)
    expected = (parts - mean) / ((parts - mean).square().mean(over, keepdim=True) + 1e-5).sqrt()
    expected = expected.flatten(-2)
    if layer.module.weight is not None:
        expected = expected * without(layer.module.weight, 0, gone)
    if getattr(layer.module, "bias", None) is not None:
        expected = expected + without(layer.module.bias, 0, gone)
    found = call(cut(layer, side, gone), some.movedim(-1, axis))
    torch.testing.assert_close(found, expected.movedim(-1, axis))


@pytest.mark.parametrize("name", HEADS)
def test_cut_of_heads_is_zero_where_they_are_read(name, seed):
    layer, x = built(name, seed)
    heads, gone = layer.heads(), np.array([seed % 3])
    copied = layer_of(copy.deepcopy(layer.module))
    for part, features in heads.makes.items():
        layer_of(copied.module.get_submodule(part)).cut("outputs", features[gone].ravel())
    [(reader, reads)] = heads.reads.items()
    layer_of(copied.module.get_submodule(reader)).cut("inputs", reads[gone].ravel())
    for parameter, axis in heads.parameters.items():
        kept = without(copied.module.get_parameter(parameter).data, axis, gone)
        setattr(copied.module, parameter, nn.Parameter(kept))
    for size, block in heads.sizes.items():
        setattr(copied.module, size, getattr(copied.module, size) - block)
    copied.settle()

    def zero(module, inputs):
        return inputs[0].index_fill(-1, torch.from_numpy(reads[gone].ravel()), 0.0)

    found = call(layer_of(copied.module), x)
    layer.module.get_submodule(reader).register_forward_pre_hook(zero)
    torch.testing.assert_close(found, call(layer, x))


def counted(layer):
    """Parameters that its cost is about."""
    return sum(p.numel() for p in layer.module.parameters(recurse=False))


# A recurrent layer has more parameters than those that its inputs meet.
GROW = [name for name in roles("makes", "carries", "both") if "recurrent" not in ROWS[name].kind]


@pytest.mark.parametrize("name", GROW)
def test_parameters_grow_with_the_sides_as_the_cost_says(name, seed):
    layer, _ = built(name, seed)
    cost = layer.cost
    assert counted(layer) == cost.weights + cost.per_output * cost.out_features
    gone = drawn(layer.outputs, seed)
    kept = cost.out_features - len(gone)
    left = cost.weights * kept // cost.out_features + cost.per_output * kept
    assert counted(cut(layer, "outputs", gone)) == left
    if name in READ:
        gone = drawn(layer.inputs, seed)
        left = cost.weights * (cost.in_features - len(gone)) // cost.in_features
        left += cost.per_output * cost.out_features
        assert counted(cut(layer, "inputs", gone)) == left


def every_position(layer, made):
    return torch.arange(layer.positions(made.shape)).expand(len(made), -1)


@pytest.mark.parametrize("name", SAMPLED)
def test_rows_times_the_map_are_the_outputs(name, seed):
    layer, x = built(name, seed)
    inputs = layer.with_input((), x)
    read, made = layer.sides(inputs, call(layer, x))
    at = every_position(layer, made)
    rows, linear = layer.rows_read(read, at, made.shape), layer.map
    expected = torch.einsum("nfb,ofb->no", rows, linear.weight)
    expected = expected if linear.bias is None else expected + linear.bias
    torch.testing.assert_close(layer.rows_made(made, at), expected)
    assert linear.weight.shape == (layer.outputs.features, layer.inputs.features, rows.shape[2])
    assert layer.made_shape(inputs, call(layer, x)) == made.shape


@pytest.mark.parametrize("name", [n for n in SAMPLED if ROWS[n].kind == "conv"])
def test_rows_of_a_convolution_are_the_unfolded_input(name, seed):
    layer, x = built(name, seed)
    made = call(layer, x)
    found = layer.rows_read(x, every_position(layer, made), made.shape)
    torch.testing.assert_close(found, unfolded_rows(layer.module, x))


@pytest.mark.parametrize("name", [n for n in SAMPLED if built(n)[0].filters])
def test_map_that_is_written_is_the_one_that_is_read(name, seed):
    layer, _ = built(name, seed)
    old = layer.map
    weight = torch.randn(old.weight.shape).double()
    blocks = torch.ones([size // old.parts for size in weight.shape[:2]])
    weight *= torch.block_diag(*[blocks] * old.parts)[:, :, None]
    bias = torch.randn(len(weight)).double()
    with torch.no_grad():
        layer.set_map(weight, bias)
    assert torch.equal(layer.map.weight, weight)
    assert old.bias is None or torch.equal(layer.map.bias, bias)


@pytest.mark.parametrize("name", roles("makes", "carries", "both"))
def test_what_was_cut_can_be_copied_saved_and_trained(name, seed):
    layer, x = built(name, seed)
    side = layer.inputs if name in READ else layer.outputs
    found = cut(layer, "inputs" if name in READ else "outputs", drawn(side, seed))
    less = units_gone(layer, "outputs", seed)[0] if layer.role == "both" else drawn(side, seed)
    x = without(x, layer.inputs.axis, less) if layer.inputs.features else x
    expected = call(found, x)
    for copied in (copy.deepcopy(found.module), pickle.loads(pickle.dumps(found.module))):
        assert type(copied) is type(found.module)
        torch.testing.assert_close(call(layer_of(copied), x), expected)
    other = copy.deepcopy(found.module)
    for tensor in (*other.parameters(), *other.buffers()):
        tensor.data.zero_()
    other.load_state_dict(found.module.state_dict(), strict=True)
    for name, buffer in found.module.named_buffers():  # those that are not saved
        other.get_buffer(name).copy_(buffer)
    torch.testing.assert_close(call(layer_of(other), x), expected)
    output = other.train()(*layer_of(other).with_input((), x))
    output = output[0] if isinstance(output, tuple) else output
    assert output.isfinite().all()
    assert layer_of(other).kind == layer.kind
