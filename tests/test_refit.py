"""Refit and recalibration: least squares against a twin, and what they must not change."""

import copy
import gc
import threading
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch
from oracles import (
    build_small,
    graph_of,
    images_for,
    own_images,
    random_selection,
    ridge_twin,
)
from torch import nn

from mipp.activations import Sampling
from mipp.activations.capture import Tap
from mipp.cut import apply_selection
from mipp.errors import ModelError
from mipp.graph import build_graph
from mipp.layers import layer_at, layer_of
from mipp.refit import RefitSettings, recalibrate, refit, sharing
from mipp.refit.dense_targets import Wanted
from mipp.refit.least_squares import Rows, fit_layer
from mipp.refit.side_by_side import Seen
from mipp.selection.selection import Selection, keep_all

IMAGES = 24
SETTINGS = RefitSettings(ridge=1e-2, sampling=Sampling(rows=960, images=IMAGES, seed=0))
EVERY_ROW = RefitSettings(ridge=1e-4, sampling=Sampling(rows=10**6, images=IMAGES, seed=0))
EXACT = RefitSettings(ridge=1e-9, sampling=SETTINGS.sampling)


def prune(name, seed):
    """Dense network, its pruned copy, graph, selection and calibration images."""
    dense, graph, images = build_small(name), graph_of(name), images_for(name, IMAGES)
    selection = random_selection(graph, seed)
    return dense, apply_selection(dense, selection, images[:1]), graph, selection, images


def prune_channels(dense, images, **kept):
    """The pruned copy of a small network, with the graph and the selection."""
    graph = build_graph(dense, images[:1])
    everything = keep_all(graph.widths)
    chosen = {group.strip("_"): np.asarray(channels) for group, channels in kept.items()}
    selection = Selection({**everything.kept, **chosen}, graph.widths, "test")
    return apply_selection(dense, selection, images[:1]), graph, selection


def normed_chain(seed=0):
    """Convolution, convolution without bias, batch-norm, linear; channel 1 of the first is 5."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.Conv2d(4, 6, 1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(216, 3),
    ).double()
    with torch.no_grad():
        model[0].weight[1], model[0].bias[1] = 0, 5
        model(own_images(64, seed))  # running statistics
    return model.eval()


def assert_same_state(model, state, **tolerance):
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, state[name], **(tolerance or {"rtol": 0, "atol": 0}))


@pytest.mark.parametrize("name", ["lenet5", "lenet-300-100", "resnet20"])
def test_refit_never_raises_the_reconstruction_error(name, seed):
    dense, pruned, graph, selection, images = prune(name, seed)
    fits = refit(pruned, dense, graph, selection, lambda: [images], SETTINGS)
    assert len(fits) > 1
    for fit in fits:
        assert fit.error_after <= fit.error_before + 1e-9, fit
    assert sum(fit.error_after for fit in fits) < sum(fit.error_before for fit in fits)


def test_layers_without_a_place_for_an_offset_do_not_get_worse(seed):
    torch.manual_seed(seed)
    dense = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(96, 3, bias=False),
    ).double()
    images = own_images(IMAGES, seed)
    pruned, graph, selection = prune_channels(dense, images, _0=[1, 2, 6])
    for fit in refit(pruned, dense, graph, selection, lambda: [images], SETTINGS):
        assert fit.error_after < fit.error_before


def test_refit_of_nothing_dropped_changes_nothing():
    dense, images = build_small("resnet20"), images_for("resnet20", IMAGES)
    same, selection = copy.deepcopy(dense), keep_all(graph_of("resnet20").widths)
    fits = refit(same, dense, graph_of("resnet20"), selection, lambda: [images], SETTINGS)
    assert fits == []
    assert_same_state(same, dense.state_dict())


@pytest.mark.parametrize(("name", "layer"), [("lenet5", "conv2"), ("resnet20", "layer2.0.conv1")])
def test_fit_to_its_own_inputs_returns_the_original_weights(name, layer):
    model, images = build_small(name), images_for(name, IMAGES)
    module, caught = model.get_submodule(layer), []
    tap = Tap(layer_of(module), SETTINGS.sampling, 0)

    def hook(module, inputs, output):
        at = tap.draw(output)
        caught.append((tap.inputs(inputs[0], at, output), tap.outputs(output, at)))

    module.register_forward_hook(hook)
    with torch.no_grad():
        model(images)
        before = copy.deepcopy(module.state_dict())
        norm = graph_of(name).norm_after.get(layer)
        norm = model.get_submodule(norm) if norm else None
        mean = norm.running_mean.clone() if norm else None
        statistics = layer_of(norm).statistics if norm else None
        fit = fit_layer(layer, layer_of(module), statistics, [Rows(*caught[0])], ridge=1e-2)
    assert_same_state(module, before, rtol=0, atol=1e-6)
    assert norm is None or torch.allclose(norm.running_mean, mean, atol=1e-6)
    assert max(fit.error_before, fit.error_after) < 1e-12


@pytest.mark.parametrize("bias", [True, False])
def test_fit_matches_stacked_least_squares(bias, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(1, 2, (200, 5)), rng.normal(-1, 1, (200, 3))
    torch.manual_seed(seed)
    layer = nn.Linear(5, 3, bias=bias).double()
    old = layer.weight.detach().numpy().T.copy()
    weights, offset = ridge_twin(x, y, old, 0.3, offset=bias)
    rows = Rows(torch.from_numpy(x), torch.from_numpy(y))
    with torch.no_grad():
        fit = fit_layer("layer", layer_of(layer), None, [rows], ridge=0.3)
    np.testing.assert_allclose(layer.weight.detach().numpy().T, weights, atol=1e-10)
    if bias:
        np.testing.assert_allclose(layer.bias.detach().numpy(), offset, atol=1e-10)
    error = ((x @ weights + offset - y) ** 2).sum() / ((y - y.mean(0)) ** 2).sum()
    assert fit.error_after == pytest.approx(error, rel=1e-9)


def test_copied_channel_is_repaired_exactly(seed):
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.Flatten(), nn.Linear(64, 3)
    dense = nn.Sequential(*layers).double()
    with torch.no_grad():  # ReLU keeps a positive multiple one
        dense[0].weight[3], dense[0].bias[3] = dense[0].weight[1] * 2, dense[0].bias[1] * 2
    images = own_images(IMAGES, seed)
    pruned, graph, selection = prune_channels(dense, images, _0=[0, 1, 2, 4])
    assert not torch.allclose(pruned(images), dense(images), atol=1e-3)
    refit(pruned, dense, graph, selection, lambda: [images], EXACT)
    torch.testing.assert_close(pruned(images), dense(images), rtol=0, atol=1e-6)


def let_passes_have(monkeypatch, images, number):
    """So many images each."""
    monkeypatch.setattr(sharing, "CHUNK", number * images[0].nbytes)


@pytest.mark.parametrize(
    ("name", "sizes", "passes"),
    [
        *(("lenet5", sizes, 8) for sizes in ((8, 8, 8), (10, 10, 4))),
        *((name, (24,), 9) for name in ("lenet5", "resnet20")),
    ],
)
def test_one_pass_gives_what_several_give(name, sizes, passes, seed, monkeypatch):
    dense, pruned, graph, selection, images = prune(name, seed)
    again = copy.deepcopy(pruned)
    one = refit(pruned, dense, graph, selection, lambda: [images], SETTINGS)
    let_passes_have(monkeypatch, images, passes)
    several = refit(again, dense, graph, selection, lambda: images.split(sizes), SETTINGS)
    assert [fit.layer for fit in one] == [fit.layer for fit in several]
    assert_same_state(pruned, again.state_dict(), rtol=1e-5, atol=1e-5)


def test_layers_of_large_maps_are_fitted_to_the_first_images_and_the_others_to_all(
    seed, monkeypatch
):
    dense, images = normed_chain(seed), own_images(IMAGES, seed)
    let_passes_have(monkeypatch, images, 8)
    # an image has 8 bytes x (4 + 6) x 36 pixels at the second convolution, 8 x 219 at the last
    waiting = sharing.ALIVE * (images[0].nbytes + 8 * 360)
    monkeypatch.setattr(sharing, "WAITING", 16 * waiting)
    pruned, graph, selection = prune_channels(dense, images, _0=[0, 2, 3])
    few, old = copy.deepcopy(pruned), pruned[5].weight.detach().numpy().T.copy()
    refit(pruned, dense, graph, selection, lambda: images.split(8), EVERY_ROW)
    refit(few, dense, graph, selection, lambda: [images[:16]], EVERY_ROW)
    assert_same_state(pruned[1], few[1].state_dict(), rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        rows = pruned[:5](images).numpy(), dense(images).numpy()
    weights, offset = ridge_twin(*rows, old, EVERY_ROW.ridge, offset=True)
    np.testing.assert_allclose(pruned[5].weight.detach().T, weights, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(pruned[5].bias.detach(), offset, rtol=1e-6, atol=1e-8)


def test_no_pass_takes_more_images_of_a_batch_than_may_wait(seed, monkeypatch):
    dense, images = normed_chain(seed), own_images(IMAGES, seed)
    waiting = sharing.ALIVE * (images[0].nbytes + 8 * 360)  # at the second convolution, as above
    monkeypatch.setattr(sharing, "WAITING", 5 * waiting)
    pruned, graph, selection = prune_channels(dense, images, _0=[0, 2, 3])
    sizes = set()
    for network in (dense, pruned):
        network.register_forward_pre_hook(lambda _, inputs: sizes.add(len(inputs[0])))
    refit(pruned, dense, graph, selection, lambda: [images], EVERY_ROW)
    assert sizes == {1, 5}  # a look at one image comes first


def rows_at_each_fit(monkeypatch, batches, *, look=False):
    """By layer: features and rows it is fitted to, and samples of layers in both networks held."""
    fitted = {}

    def spy(name, layer, norm, rows, **options):
        things = gc.get_objects() if look else []  # takes a third of a second
        held = len({id(thing.x) for thing in things if type(thing) is Seen})
        dense = len({id(thing.output) for thing in things if type(thing) is Wanted})
        count = sum(len(one.x) for one in rows)
        fitted[name] = layer.map.weight[0].numel(), count, (held, dense)
        return fit_layer(name, layer, norm, rows, **options)

    monkeypatch.setattr(import_module("mipp.refit.refit"), "fit_layer", spy)
    dense, pruned, graph, selection, images = prune("resnet20", 0)
    refit(pruned, dense, graph, selection, lambda: images.split(batches), SETTINGS)
    return fitted


def test_layers_with_few_features_are_fitted_to_fewer_rows(monkeypatch):
    monkeypatch.setattr(sharing, "AMPLE", 0)
    monkeypatch.setattr(sharing, "ROWS", 5 * IMAGES)
    monkeypatch.setattr(sharing, "PER_FEATURE", 2)
    fitted = rows_at_each_fit(monkeypatch, IMAGES)
    assert len(fitted) > 5
    for features, rows, *_ in fitted.values():
        wanted = min(SETTINGS.sampling.rows, max(5 * IMAGES, 2 * features))
        assert wanted <= rows < wanted + IMAGES or rows == IMAGES  # the classifier's


def test_no_layer_of_a_small_network_is_fitted_to_fewer_rows(monkeypatch):
    monkeypatch.setattr(sharing, "PER_FEATURE", 2)
    fitted = rows_at_each_fit(monkeypatch, IMAGES)
    every = SETTINGS.sampling.rows
    assert {rows for _, rows, *_ in fitted.values() if rows != IMAGES} == {every}


def test_rows_of_a_layer_are_given_up_once_it_is_fitted(monkeypatch):
    let_passes_have(monkeypatch, images_for("resnet20", 1), 8)
    fitted = rows_at_each_fit(monkeypatch, 8, look=True)
    assert len(fitted) > 10
    assert {held for *_, held in fitted.values()} == {(0, 0)}


@pytest.mark.parametrize(("name", "summed"), [("lenet5", 0), ("resnet20", 9)])
def test_layers_run_once_in_every_pass_but_the_first_and_where_a_sum_decides(
    name, summed, monkeypatch
):
    dense, pruned, graph, selection, images = prune(name, 0)
    let_passes_have(monkeypatch, images, 6)
    run = dict.fromkeys(pruned.modules(), 0)

    def counting(module, forward):
        def count(x):
            run[module] += len(x)
            return forward(x)

        return count

    for module in pruned.modules():
        if type(module) in (nn.Conv2d, nn.Linear):
            module.forward = counting(module, module.forward)
    settings = replace(SETTINGS, lengths="fitted")
    fits = refit(pruned, dense, graph, selection, lambda: images.split(6), settings)
    times = [run[pruned.get_submodule(fit.layer)] for fit in fits]
    assert sorted(times) == [IMAGES + 6] * (len(fits) - summed) + [2 * IMAGES] * summed


def test_error_in_one_of_several_passes_comes_out_and_leaves_no_thread(seed):
    dense, pruned, graph, selection, images = prune("lenet5", seed)

    def fail(module, inputs):
        raise ValueError("no more")

    hook = layer_at(pruned, next(reversed(graph.costs)).module).module.register_forward_pre_hook(
        fail
    )
    before = threading.active_count()
    with pytest.raises(ModelError, match="no more"):
        refit(pruned, dense, graph, selection, lambda: [images], SETTINGS)
    hook.remove()
    assert threading.active_count() == before


def test_change_of_the_mean_goes_to_the_batch_norm_that_follows(seed):
    dense, images = normed_chain(seed), own_images(IMAGES, seed)
    pruned, graph, selection = prune_channels(dense, images, _0=[0, 2, 3])
    mean = dense[:3](images).mean((0, 2, 3))
    assert not torch.allclose(pruned[:3](images).mean((0, 2, 3)), mean, atol=0.1)
    refit(pruned, dense, graph, selection, lambda: [images], EXACT)
    torch.testing.assert_close(pruned[:3](images).mean((0, 2, 3)), mean, rtol=0, atol=1e-8)
    torch.testing.assert_close(pruned(images), dense(images), rtol=0, atol=1e-6)


class Residual(nn.Module):
    """A stem, a block of one hidden layer added to its input or to a convolution of it, a head."""

    def __init__(self, form, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.form = form
        self.pre, self.stem = nn.Conv2d(3, 7, 3), nn.Conv2d(7, 6, 1)
        self.up = nn.Conv2d(6, 8, 1)
        self.down, self.norm = nn.Conv2d(8, 6, 1, bias=False), nn.BatchNorm2d(6)
        self.skip = nn.Conv2d(6, 6, 1) if form == "two layers" else nn.Identity()
        self.head = nn.Linear(6, 3)
        with torch.no_grad():
            self.train().double()(own_images(64, seed))  # running statistics
            self.norm.weight.copy_(torch.tensor([0.5, -1.0, 2.0, 1.0, 0.0, 1.5]))
        self.eval()

    def block(self, x):
        y = self.norm(self.down(self.up(x).relu()))
        if self.form == "in place":
            y += x
            return y
        if self.form == "by function":
            return torch.add(x, y, alpha=1)
        if self.form == "by method":
            return y.add_(x, alpha=1.0)
        return self.skip(x) + y if self.form == "two layers" else y + x

    def forward(self, x):
        return self.head(self.block(self.start(x)).mean((2, 3)))

    def start(self, x):
        return self.stem(self.pre(x).relu()).relu()


def residual_error(form, batches, seed, *, sums=True):
    """Error at the sum after a refit, as a share of the dense one's variance, and the networks."""
    dense, images = Residual(form, seed), own_images(IMAGES, seed)
    pruned, graph, selection = prune_channels(
        dense, images, pre=[0, 1, 4, 6], stem=[0, 1, 3, 4, 5], up=[0, 2, 3, 5]
    )
    if not sums:
        graph = replace(graph, sums={})
    refit(pruned, dense, graph, selection, lambda: images.split(batches), EVERY_ROW)
    kept = selection.kept["stem"] if form != "two layers" else slice(None)
    with torch.no_grad():
        wanted = dense.block(dense.start(images))[:, kept]
        found = pruned.block(pruned.start(images))
    return float((found - wanted).square().mean() / wanted.var()), dense, pruned, selection


@pytest.mark.parametrize("form", ["sum", "in place", "by function", "by method", "two layers"])
@pytest.mark.parametrize("batches", [IMAGES, 9])
def test_layer_before_a_sum_makes_up_for_the_other_side(form, batches, seed):
    with_sums, *_ = residual_error(form, batches, seed)
    without, *_ = residual_error(form, batches, seed, sums=False)
    assert with_sums < without


def test_layer_before_a_sum_is_the_least_squares_map_to_what_is_missing(seed):
    _, dense, pruned, selection = residual_error("sum", IMAGES, seed)
    images, kept = own_images(IMAGES, seed), selection.kept["stem"]
    with torch.no_grad():
        skip, skip_now = dense.start(images)[:, kept], pruned.start(images)
        wanted = dense.down(dense.up(dense.start(images)).relu())[:, kept]
        slope = dense.norm.weight[kept] / (dense.norm.running_var[kept] + dense.norm.eps).sqrt()
        missing = (skip - skip_now) / slope[:, None, None]
        wanted += torch.where(slope[:, None, None] == 0, 0, missing)
        x = pruned.up(skip_now).relu()
    rows = [v.movedim(1, 3).flatten(0, 2).numpy() for v in (x, wanted)]
    old = dense.down.weight.detach()[kept][:, selection.kept["up"], 0, 0].numpy().T
    weights, offset = ridge_twin(*rows, old, EVERY_ROW.ridge, offset=True)
    shorter = np.linalg.norm(old, axis=0) / np.linalg.norm(weights, axis=0)
    np.testing.assert_allclose(
        pruned.down.weight.detach()[:, :, 0, 0].numpy().T, weights * shorter, atol=1e-9
    )
    mean = (dense.norm.running_mean[kept].numpy() - offset) * shorter
    np.testing.assert_allclose(pruned.norm.running_mean.numpy(), mean, atol=1e-9)


def inputs_of_norms(model, images):
    """Mean and variance per channel of what each batch-norm reads."""
    seen, norms = {}, {n: m for n, m in model.named_modules() if type(m) is nn.BatchNorm2d}
    hooks = [
        norm.register_forward_pre_hook(
            lambda norm, inputs, name=name: seen.update({name: inputs[0]})
        )
        for name, norm in norms.items()
    ]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return {n: (x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)) for n, x in seen.items()}


@pytest.mark.parametrize("lengths", ["former", "fitted"])
@pytest.mark.parametrize(
    ("name", "batches"),
    [
        pytest.param("resnet20", 9, marks=pytest.mark.slow),
        *((name, size) for name in ("sum", "two layers") for size in (IMAGES, 9)),
    ],
)
def test_norms_of_their_own_have_the_statistics_of_what_they_read(
    name, batches, lengths, seed, monkeypatch
):
    if name == "resnet20":
        dense, pruned, graph, selection, images = prune(name, seed)
    else:
        dense, images = Residual(name, seed), own_images(IMAGES, seed)
        pruned, graph, selection = prune_channels(dense, images, pre=[0, 1, 4], up=[0, 2, 3, 5])
    let_passes_have(monkeypatch, images, batches)
    networks = pruned, copy.deepcopy(pruned)
    for network, norms in zip(networks, ("own", "dense"), strict=True):
        settings = replace(EVERY_ROW, lengths=lengths, norms=norms)
        refit(network, dense, graph, selection, lambda: images.split(batches), settings)
    read = inputs_of_norms(pruned, images)
    assert len(read) == (1 if name != "resnet20" else 19)
    tolerance = {"rtol": 1e-3, "atol": 1e-4} if name == "resnet20" else {}  # in float32
    for norm, (mean, variance) in read.items():
        module = pruned.get_submodule(norm)
        torch.testing.assert_close(module.running_mean, mean, **tolerance)
        near = tolerance or {"rtol": 1e-7, "atol": 2 * module.eps}  # a length moves eps too
        torch.testing.assert_close(module.running_var, variance, **near)
    with torch.no_grad():
        outputs = [network(images) for network in networks]
    torch.testing.assert_close(*outputs, **tolerance)


def test_change_of_the_mean_goes_to_the_bias(seed):
    dense, images = normed_chain(seed), own_images(IMAGES, seed)
    dense[1] = nn.Conv2d(4, 6, 1).double()
    pruned, graph, selection = prune_channels(dense, images, _0=[0, 2, 3])
    running = pruned[2].running_mean.clone()
    refit(pruned, dense, graph, selection, lambda: [images], replace(EXACT, lengths="fitted"))
    assert torch.equal(pruned[2].running_mean, running)
    expected = dense[1].bias + 5 * dense[1].weight[:, 1, 0, 0]
    torch.testing.assert_close(pruned[1].bias, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("changed", [{"ridge": 0.1}, {"solutions": 2}, {"lengths": "fitted"}])
def test_every_setting_changes_the_weights(changed, seed):
    dense, cut, graph, selection, images = prune("resnet20", seed)
    weights = []
    for settings in (SETTINGS, replace(SETTINGS, **changed)):
        pruned = copy.deepcopy(cut)
        refit(pruned, dense, graph, selection, lambda: [images], settings)
        weights.append([p for p in pruned.parameters() if p.ndim == 4])
    assert any(not torch.equal(*both) for both in zip(*weights, strict=True))


def test_layers_before_the_first_loss_stay_as_they_are(seed):
    dense, graph, images = build_small("lenet5"), graph_of("lenet5"), images_for("lenet5", IMAGES)
    selection = Selection({**keep_all(graph.widths).kept, "fc1": np.arange(60)}, graph.widths, "t")
    pruned = apply_selection(dense, selection, images[:1])
    fits = refit(pruned, dense, graph, selection, lambda: [images], SETTINGS)
    assert [fit.layer for fit in fits] == ["fc2", "fc3"]
    for name in ("conv1", "conv2"):
        assert_same_state(pruned.get_submodule(name), dense.get_submodule(name).state_dict())


def test_refit_leaves_networks_in_their_modes_without_hooks():
    dense, pruned, graph, selection, images = prune("resnet20", 0)
    before = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    for network in (dense, pruned):
        network.train()
        network.bn1.eval()  # a frozen batch-norm in a network in training
    refit(pruned, dense, graph, selection, lambda: images.split(8), SETTINGS)
    assert_same_state(dense, before)
    for network in (dense, pruned):
        assert not any(module._forward_hooks for module in network.modules())
        assert [name for name, m in network.named_modules() if not m.training] == ["bn1"]


def recalibrated(batches, mode="eval"):
    """A network that has seen other inputs before, recalibrated on these."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.3), nn.Dropout(0.5))
    model.double()(own_images(8, 99) + 7)
    model.train(mode == "train")
    recalibrate(model, batches)
    return model


def channel_statistics(model, images):
    rows = model[0](images).detach().permute(0, 2, 3, 1).reshape(-1, 4).numpy()
    return rows.mean(0), rows.var(0, ddof=1)


def test_recalibration_gives_the_statistics_of_the_inputs(seed):
    images = own_images(16, seed)
    model = recalibrated([images])
    mean, variance = channel_statistics(model, images)
    np.testing.assert_allclose(model[1].running_mean, mean, atol=1e-12)
    np.testing.assert_allclose(model[1].running_var, variance, rtol=1e-12)


def test_recalibration_averages_over_batches(seed):
    batches = [own_images(8, seed), own_images(8, seed + 1) * 3 + 1, own_images(8, seed + 2)]
    model = recalibrated(batches)
    statistics = [channel_statistics(model, images) for images in batches]
    mean, variance = (np.mean(part, 0) for part in zip(*statistics, strict=True))
    np.testing.assert_allclose(model[1].running_mean, mean, atol=1e-12)
    np.testing.assert_allclose(model[1].running_var, variance, rtol=1e-12)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_recalibration_keeps_momentum_and_mode(mode):
    model = recalibrated([own_images(4)], mode)
    assert model[1].momentum == 0.3
    assert {module.training for module in model.modules()} == {mode == "train"}


def test_recalibration_keeps_the_mode_of_every_module():
    model = build_small("resnet20").train()
    model.bn1.eval()  # a frozen batch-norm in a network in training
    recalibrate(model, [images_for("resnet20", 4)])
    assert [name for name, module in model.named_modules() if not module.training] == ["bn1"]


def test_recalibration_changes_statistics_alone():
    model = build_small("resnet20")
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    recalibrate(model, [images_for("resnet20", 4)])
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())


def test_recalibration_without_batch_norm_reads_nothing():
    model = build_small("lenet5")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    unread = iter([images_for("lenet5", 1)])
    recalibrate(model, unread)
    assert_same_state(model, before)
    assert len(list(unread)) == 1
