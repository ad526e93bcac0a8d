"""Networks side by side against torch's own, one at a time."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mipp.information.reconstruction.perceptron import (
    Perceptrons,
    initialise,
    losses,
    minibatches,
    step,
)

SIZES = [5, 7, 6, 3]


def draw(seed, sizes=SIZES, count=4):
    networks = initialise(sizes, count, torch.Generator().manual_seed(seed))
    return networks.map(torch.Tensor.double)


def draw_rows(seed, count=4, n=12):
    generator = torch.Generator().manual_seed(seed + 100)
    x = torch.randn(count, n, SIZES[0], generator=generator, dtype=torch.float64)
    y = torch.randn(count, n, SIZES[-1], generator=generator, dtype=torch.float64)
    classes = torch.randint(SIZES[-1], (count, n), generator=generator)
    return x, {"squared error": y, "cross entropy": classes}


def stack_of(networks, g):
    """The g-th of the networks, of torch's own layers."""
    layers = []
    for weight, bias in zip(networks.weights, networks.biases, strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[2]).double()
        layer.weight.data, layer.bias.data = weight[g].T.clone(), bias[g, 0].clone()
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def torch_loss(outputs, y, loss):
    return F.mse_loss(outputs, y) if loss == "squared error" else F.cross_entropy(outputs, y)


def assert_same(found, weights, biases):
    assert isinstance(found, Perceptrons)
    for mine, expected in zip(found.parameters(), [*weights, *biases], strict=True):
        assert torch.equal(mine, expected)


@pytest.mark.parametrize("sizes", [[5, 3], [5, 7, 3], SIZES])
def test_outputs_equal_those_of_separate_stacks(sizes, seed):
    networks, (x, _) = draw(seed, sizes), draw_rows(seed)
    expected = torch.stack([stack_of(networks, g)(x[g]) for g in range(4)])
    torch.testing.assert_close(networks(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("loss", ["squared error", "cross entropy"])
def test_losses_equal_torchs_own(loss, seed):
    networks, (x, targets) = draw(seed), draw_rows(seed)
    y, outputs = targets[loss], networks(x)
    expected = [float(torch_loss(outputs[g], y[g], loss)) for g in range(4)]
    found = losses(outputs, y, loss)
    assert found.mean(1).tolist() == pytest.approx(expected, rel=1e-12)


def test_squared_error_is_told_per_target(seed):
    networks, (x, targets) = draw(seed), draw_rows(seed)
    y, outputs = targets["squared error"], networks(x)
    expected = [
        [float(F.mse_loss(outputs[g, :, j], y[g, :, j])) for j in range(3)] for g in range(4)
    ]
    torch.testing.assert_close(losses(outputs, y, "squared error"), torch.tensor(expected).double())


@pytest.mark.parametrize("loss", ["squared error", "cross entropy"])
def test_networks_are_trained_as_if_each_were_alone(loss, seed):
    networks, (x, targets) = draw(seed).trainable(), draw_rows(seed)
    stacks = [stack_of(networks, g) for g in range(4)]
    optimiser = torch.optim.Adam(networks.parameters(), 1e-2)
    for _ in range(5):
        step(networks, optimiser, x, targets[loss], loss)
    for g, stack in enumerate(stacks):
        alone = torch.optim.Adam(stack.parameters(), 1e-2)
        for _ in range(5):
            alone.zero_grad()
            torch_loss(stack(x[g]), targets[loss][g], loss).backward()
            alone.step()
        torch.testing.assert_close(networks(x)[g], stack(x[g]), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("size", [1, 4, 10, 64])
def test_epoch_covers_each_networks_rows_exactly_once(size, seed):
    rows = torch.arange(30).view(3, 10) * 7 + 5
    batches = list(minibatches(rows, size, torch.Generator().manual_seed(seed)))
    assert {len(batch[0]) for batch in batches[:-1]} <= {size}
    epoch = torch.cat(batches, 1)
    assert torch.equal(epoch.sort(1).values, rows)
    orders = (epoch - 5) // 7 - 10 * torch.arange(3)[:, None]
    assert len({tuple(order.tolist()) for order in orders}) == 3  # each in an order of its own


def test_epochs_differ_and_seeds_repeat_them(seed):
    rows, generator = torch.arange(40).view(2, 20), torch.Generator().manual_seed(seed)
    first, second = (torch.cat(list(minibatches(rows, 6, generator)), 1) for _ in range(2))
    again = torch.cat(list(minibatches(rows, 6, torch.Generator().manual_seed(seed))), 1)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_weights_start_as_torchs_linear_layers_do(seed):
    networks = initialise([50, 40, 30], 20, torch.Generator().manual_seed(seed))
    for weight, bias, inputs in zip(networks.weights, networks.biases, (50, 40), strict=True):
        assert weight.shape[:2] == (20, inputs)
        assert bias.shape == (20, 1, weight.shape[2])
        for tensor in (weight, bias):
            assert float(tensor.abs().max()) < inputs**-0.5
            # uniform on +-b has deviation b / sqrt 3; at least 600 values
            assert float(tensor.std()) == pytest.approx((3 * inputs) ** -0.5, rel=0.1)
    assert not torch.equal(networks.weights[0][0], networks.weights[0][1])


def test_some_outputs_are_those_columns_of_the_outputs(seed):
    networks, (x, _) = draw(seed), draw_rows(seed)
    few = torch.tensor([2, 0])
    torch.testing.assert_close(networks.with_outputs(few)(x), networks(x)[:, :, few])


def test_some_inputs_leave_the_others_at_zero(seed):
    networks, (x, _) = draw(seed), draw_rows(seed)
    few = torch.tensor([3, 1, 4])
    masked = torch.zeros_like(x)
    masked[:, :, few] = x[:, :, few]
    torch.testing.assert_close(networks.with_inputs(few)(x[:, :, few]), networks(masked))


def test_copies_repeat_all_networks_in_turn(seed):
    networks = draw(seed, count=2)
    order = [0, 1, 0, 1, 0, 1]
    weights, biases = ([t[order] for t in part] for part in (networks.weights, networks.biases))
    assert_same(networks.copies(3), weights, biases)


def test_part_is_a_slice_that_stands_on_its_own(seed):
    networks = draw(seed)
    part = networks.part(1, 3)
    assert_same(part, [w[1:3] for w in networks.weights], [b[1:3] for b in networks.biases])
    part.weights[0].zero_()
    assert bool(networks.weights[0][1:3].abs().sum() > 0)


def test_where_takes_each_network_whole_from_one_side(seed):
    mine, others = draw(seed), draw(seed + 1)
    sides = [mine, others, others, mine]
    chosen = torch.tensor([True, False, False, True])
    weights, biases = (
        [torch.stack([getattr(side, kind)[i][g] for g, side in enumerate(sides)]) for i in range(3)]
        for kind in ("weights", "biases")
    )
    assert_same(mine.where(chosen, others), weights, biases)


def test_trainable_copy_leaves_the_networks_as_they_are(seed):
    networks, (x, targets) = draw(seed), draw_rows(seed)
    before = [t.clone() for t in networks.parameters()]
    copy = networks.trainable()
    step(
        copy,
        torch.optim.Adam(copy.parameters(), 1e-2),
        x,
        targets["squared error"],
        "squared error",
    )
    assert all(map(torch.equal, networks.parameters(), before))
    assert not any(map(torch.equal, copy.parameters(), before))
