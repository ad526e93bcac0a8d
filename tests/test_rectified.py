"""What a ReLU leaves free: which outputs, and what the refit gains by it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mipp
from mipp.layers import layer_of
from mipp.refit.least_squares import Rows, fit_layer
from mipp.refit.rectified import rows_to_fit


def norm_of(seed, channels=5):
    generator = torch.Generator().manual_seed(seed)
    norm = nn.BatchNorm1d(channels).double().eval()
    norm.weight.data = torch.randn(channels, generator=generator).double()  # of both signs
    norm.bias.data = torch.randn(channels, generator=generator).double()
    norm.running_mean = torch.randn(channels, generator=generator).double()
    return norm


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("normed", [False, True])
def test_outputs_inside_of_the_interval_pass_the_relu_as_the_dense_ones_do(seed, normed, summed):
    generator = torch.Generator().manual_seed(seed)
    output, then, now = torch.randn(3, 400, 5, generator=generator).double()
    norm = norm_of(seed) if normed else None
    sides = (then, now) if summed else None
    statistics = layer_of(norm).statistics if normed else None
    rows = rows_to_fit(torch.zeros(400, 1), output, statistics, sides, rectified=True)

    def passed(outputs, side):
        outputs = outputs if norm is None else norm(outputs)
        return F.relu(outputs + side if summed else outputs)

    free = rows.low != rows.high
    assert 0.2 < free.double().mean() < 0.8
    for step in (0.0, 0.3, 7.0):
        inner = torch.where(rows.low.isinf(), rows.high - step, rows.low + step)
        found = passed(torch.where(free, inner, rows.wanted), now)
        torch.testing.assert_close(found, passed(output, then), rtol=0, atol=1e-9)
    assert (rows.low <= rows.wanted + 1e-9).all()
    assert (rows.wanted <= rows.high + 1e-9).all()


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("summed", [False, True])
def test_layer_before_a_norm_of_scale_zero_is_to_put_out_what_it_did(summed, rectified):
    generator = torch.Generator().manual_seed(0)
    output, then, now = torch.randn(3, 400, 5, generator=generator).double()
    norm = norm_of(0)
    norm.weight.data.zero_()  # as residual branches begin in timm and, if asked for, torchvision
    sides = (then, now) if summed else None
    found = rows_to_fit(
        torch.zeros(400, 1), output, layer_of(norm).statistics, sides, rectified=rectified
    )
    assert torch.equal(found.wanted, output)
    if rectified:
        assert torch.equal(found.low, output)
        assert torch.equal(found.high, output)


class Branch(nn.Module):
    """A residual branch that begins as nothing."""

    def __init__(self, width=6):
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.norm = nn.BatchNorm2d(width)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x):
        return F.relu(x + self.norm(self.second(F.relu(self.first(x)))))


def test_network_whose_branches_begin_as_nothing_is_refitted_with_its_norms_finite():
    torch.manual_seed(0)
    branches = (Branch() for _ in range(4))
    net = nn.Sequential(nn.Conv2d(1, 6, 3), *branches, nn.Flatten(), nn.Linear(216, 3)).eval()
    images = torch.rand(48, 1, 8, 8)
    pruned = mipp.prune(net, images.split(24), "macs:0.6")
    assert all(value.isfinite().all() for value in pruned.model.state_dict().values())
    apart = (pruned.model.eval()(images) - net(images)).square().mean()
    assert apart < 0.2 * net(images).var()
    pruned.model.train()(images).sum().backward()


def test_refit_that_knows_of_the_relu_errs_less_behind_it(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(600, 8))
    y = x @ rng.normal(size=(8, 4)) + np.maximum(x[:, :4], 0) - 0.5  # not linear in the kept five
    kept = torch.from_numpy(x[:, :5])

    def error_behind_relu(rows, **solutions):
        layer = nn.Linear(5, 4).double()
        with torch.no_grad():
            fit = fit_layer("layer", layer_of(layer), None, [rows], ridge=1e-6, **solutions)
            found = layer(kept).numpy()
        return ((np.maximum(found, 0) - np.maximum(y, 0)) ** 2).sum(), fit

    plain, _ = error_behind_relu(Rows(kept, torch.from_numpy(y)))
    rows = rows_to_fit(kept, torch.from_numpy(y), None, None, rectified=True)
    knowing, fit = error_behind_relu(rows)
    assert knowing < 0.97 * plain
    # where the dense output passes, any error counts, on both sides of zero: never less
    assert fit.error_after * ((y - y.mean(0)) ** 2).sum() >= knowing * (1 - 1e-9)
    assert fit.error_after <= fit.error_before
    errors = [error_behind_relu(rows, solutions=count)[0] for count in (1, 2, 3)]
    assert errors[0] == pytest.approx(plain, rel=1e-3)  # the first knows nothing of the ReLU
    assert errors[0] > errors[1] > errors[2] == pytest.approx(knowing, rel=1e-6)
