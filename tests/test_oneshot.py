"""`mipp.prune` on an own network: what goes in stays as it was, what comes out is smaller."""

import copy
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import mipp
from mipp.errors import BudgetError, CheckpointError, ConfigError, DataError, InputError
from mipp.models import ModelSpec, build_model


class Net(nn.Module):
    """Two convolutions of 8x8 images, one with batch norm, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 12, 3, padding=1)
        self.head = nn.Linear(12 * 16, 10)

    def forward(self, x):
        x = F.relu(self.norm(self.conv1(x)))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.head(torch.flatten(x, 1))


IMAGES = 192


@pytest.fixture
def net():
    """In eval mode, with statistics of batch norm that are not those of the images."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = Net().eval()
        nn.init.uniform_(model.norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(model.norm.running_var, 0.5, 1.5)
    return model


@pytest.fixture(scope="session")
def images():
    """Shape (192, 1, 8, 8): smooth, so that units share what they know."""
    generator = torch.Generator().manual_seed(4)
    return F.avg_pool2d(torch.randn(IMAGES, 1, 10, 10, generator=generator), 3, stride=1)


@pytest.fixture(scope="session")
def labels():
    return torch.randint(10, (IMAGES,), generator=torch.Generator().manual_seed(5))


@pytest.fixture
def loader(images, labels):
    return DataLoader(TensorDataset(images, labels), batch_size=64)


def macs_by_hand(kept1, kept2):
    """8x8 positions with nine taps each, then 4x4 pooled positions into ten outputs."""
    return 64 * 9 * kept1 + 64 * 9 * kept1 * kept2 + 16 * kept2 * 10


def kept(pruned):
    return {group: channels.tolist() for group, channels in pruned.selection.kept.items()}


def error(model, dense, images):
    """Mean squared difference of the outputs, as a share of the dense outputs' variance."""
    with torch.no_grad():
        wanted = dense(images)
        return float((model(images) - wanted).square().mean() / wanted.var())


def test_labelled_loader_gives_a_smaller_network_that_runs(net, loader, images):
    pruned = mipp.prune(net, loader, "macs:0.5")
    widths = {group: len(channels) for group, channels in kept(pruned).items()}
    assert widths.keys() == {"conv1", "conv2"}
    assert pruned.model.conv1.weight.shape == (widths["conv1"], 1, 3, 3)
    assert pruned.model.norm.running_mean.shape == (widths["conv1"],)
    assert pruned.model.conv2.weight.shape == (widths["conv2"], widths["conv1"], 3, 3)
    assert pruned.model.head.weight.shape == (10, 16 * widths["conv2"])
    assert pruned.model(images).shape == (IMAGES, 10)


@pytest.mark.parametrize("share", [0.7, 0.5, 0.25])
@pytest.mark.parametrize("method", ["mipp", "l1", "random", "taylor"])
def test_macs_budget_is_met(net, loader, method, share):
    pruned = mipp.prune(net, loader, f"macs:{share}", method=method)
    found = macs_by_hand(len(kept(pruned)["conv1"]), len(kept(pruned)["conv2"]))
    assert share - 0.2 < found / macs_by_hand(8, 12) <= share
    assert pruned.report.macs == found
    assert pruned.report.macs_dense == macs_by_hand(8, 12)


def test_ratio_budget_removes_that_share_of_the_units(net, loader):
    assert sum(map(len, kept(mipp.prune(net, loader, "ratio:0.5")).values())) in (9, 10)


def test_tensors_give_what_the_labelled_loader_gives(net, loader, images):
    bare = mipp.prune(net, list(images.split(64)))
    assert kept(bare) == kept(mipp.prune(net, loader))


def test_loader_of_inputs_alone_gives_what_tensors_give(net, images):
    loader = DataLoader(TensorDataset(images), batch_size=64)  # batches are lists of one tensor
    assert kept(mipp.prune(net, loader)) == kept(mipp.prune(net, list(images.split(64))))


def test_generator_of_batches_is_enough(net, loader):
    assert kept(mipp.prune(net, (batch for batch in loader))) == kept(mipp.prune(net, loader))


@pytest.mark.parametrize("training", [True, False])
def test_network_given_is_left_bit_for_bit(net, loader, training):
    net.train(training)
    net.conv1.weight.requires_grad_(False)
    before = copy.deepcopy(net.state_dict())
    mipp.prune(net, loader, method="mipp")
    mipp.prune(net, loader, method="l1")
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert net.training is training
    assert [n for n, p in net.named_parameters() if not p.requires_grad] == ["conv1.weight"]
    assert all(p.grad is None for p in net.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_gradient_criterion_leaves_no_gradient(net, loader):
    before = copy.deepcopy(net.state_dict())
    mipp.prune(net, loader, method="taylor")
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


def test_gradient_criterion_takes_frozen_layers(net, loader):
    free = mipp.prune(net, loader, method="taylor")
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    assert kept(mipp.prune(net, loader, method="taylor")) == kept(free)
    assert not any(p.requires_grad for p in net.parameters())


def test_pruned_network_shares_no_memory_with_the_one_given(net, loader):
    pruned = mipp.prune(net, loader, "macs:1", repair="none").model
    before = copy.deepcopy(net.state_dict())
    with torch.no_grad():
        for tensor in pruned.state_dict().values():
            tensor.add_(1)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("training", [True, False])
def test_pruned_network_is_in_the_mode_of_the_one_given(net, loader, training):
    assert mipp.prune(net.train(training), loader).model.training is training


def test_same_arguments_give_the_same_network_and_leave_the_random_state(net, images):
    state = torch.random.get_rng_state()
    first, second = (mipp.prune(net, [images], seed=1).model.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_only_the_first_images_are_used(net, loader, images):
    seen = []
    batches = (seen.append(len(batch)) or batch for batch in images.split(32))
    few = mipp.prune(net, batches, images=80)
    assert seen == [32, 32, 32]
    assert kept(few) == kept(mipp.prune(net, [images[:80]]))


def test_floor_is_kept_and_reported(net, loader):
    pruned = mipp.prune(net, loader, "ratio:0.75", method="l1", min_channels=2)
    assert min(map(len, kept(pruned).values())) == 2
    assert pruned.report.near_collapsed != ()
    assert "would have collapsed, kept at its floor" in str(pruned.report)


@pytest.mark.parametrize("order", ["mi", "best-first"])
def test_order_is_recorded_and_meets_the_budget(net, loader, order):
    pruned = mipp.prune(net, loader, order=order)
    assert pruned.selection.provenance["order"] == order
    assert pruned.report.macs <= 0.5 * pruned.report.macs_dense


def test_report_prints_what_was_removed(net, loader):
    pruned = mipp.prune(net, loader)
    text = str(pruned.report)
    parts = [
        f"params {sum(p.numel() for p in net.parameters()):,} -> {pruned.report.params:,}",
        f"MACs {macs_by_hand(8, 12):,} -> {pruned.report.macs:,}",
        *(f"{group}: {width} -> {len(kept(pruned)[group])}"
          for group, width in (("conv1", 8), ("conv2", 12))),
        "head left whole: feeds the network's output",
    ]  # fmt: skip
    assert [part for part in parts if part not in text] == []
    assert pruned.report.params == sum(p.numel() for p in pruned.model.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_network_keeps_its_precision(net, images, dtype):
    pruned = mipp.prune(net.to(dtype), [images.to(dtype)])
    assert {p.dtype for p in pruned.model.parameters()} == {dtype}
    assert pruned.report.macs <= 0.5 * pruned.report.macs_dense


# Repair


def test_refit_comes_nearer_to_the_network_than_no_repair(net, loader, images):
    errors = {
        repair: error(mipp.prune(net, loader, repair=repair).model, net, images)
        for repair in ("refit", "none")
    }
    assert errors["refit"] < 0.5 * errors["none"]


def test_no_repair_leaves_the_weights_that_stay(net, loader):
    pruned = mipp.prune(net, loader, repair="none")
    first, second = (pruned.selection.kept[group] for group in ("conv1", "conv2"))
    assert torch.equal(pruned.model.conv1.weight, net.conv1.weight[first])
    assert torch.equal(pruned.model.conv2.weight, net.conv2.weight[second][:, first])
    assert torch.equal(pruned.model.norm.running_mean, net.norm.running_mean[first])


def test_recalibration_changes_the_statistics_of_batch_norm_alone(net, loader, images):
    none, recalibrated = (
        mipp.prune(net, loader, repair=repair).model for repair in ("none", "recalibrate")
    )
    own, new = none.state_dict(), recalibrated.state_dict()
    assert {n for n in own if not torch.equal(own[n], new[n])} == {
        "norm.running_mean", "norm.running_var", "norm.num_batches_tracked",
    }  # fmt: skip
    with torch.no_grad():  # three batches of equal size: the mean over all images
        mean = recalibrated.conv1(images).mean((0, 2, 3))
    torch.testing.assert_close(recalibrated.norm.running_mean, mean)


def test_checkpoint_of_an_own_network_is_rebuilt(net, loader, images, tmp_path):
    pruned = mipp.prune(net, loader)
    saved = mipp.Checkpoint(pruned.model, None, pruned.selection, tuple(images.shape[1:]))
    mipp.save_checkpoint(tmp_path / "own.safetensors", saved)
    loaded = mipp.load_checkpoint(tmp_path / "own.safetensors", build=Net)
    assert torch.equal(loaded.model.eval()(images), pruned.model(images))
    assert loaded.selection.counts() == pruned.selection.counts()
    with pytest.raises(CheckpointError, match=r"network of your own.*\n.*build="):
        mipp.load_checkpoint(tmp_path / "own.safetensors")


# What it refuses


@pytest.mark.parametrize("calibration", [[], iter(()), [torch.empty(0, 1, 8, 8)]])
def test_empty_calibration_is_refused(net, calibration):
    with pytest.raises(DataError, match=r"(?s)holds no inputs.*Expected batches.*got none.*loader"):
        mipp.prune(net, calibration)


def test_calibration_sorted_by_class_is_refused(net, images, labels):
    batches = zip(images.split(64), labels.sort().values.split(64), strict=True)
    with pytest.raises(DataError, match=r"(?s)sorted by class.*got 192 labels.*shuffle"):
        mipp.prune(net, batches)


def test_calibration_sorted_by_class_is_refused_where_one_class_fills_it(net, images):
    sorted_labels = torch.arange(3).repeat_interleave(64)
    batches = zip(images.split(32), sorted_labels.split(32), strict=True)
    with pytest.raises(DataError, match=r"(?s)class.*shuffle"):
        mipp.prune(net, batches, images=64)


def test_criterion_that_needs_labels_refuses_bare_inputs(net, images):
    with pytest.raises(DataError, match=r"(?s)needs labels.*inputs alone.*method='mipp'"):
        mipp.prune(net, [images], method="taylor")


@pytest.mark.parametrize("method", ["l1", "synflow", "hrank", "chip", "thinet", "mrmr", "random"])
def test_criterion_that_needs_no_labels_scores_bare_inputs(net, images, labels, method):
    labelled = list(zip(images.split(64), labels.split(64), strict=True))
    bare, with_labels = (
        mipp.prune(net, batches, method=method, repair="none").selection.kept
        for batches in (images.split(64), labelled)
    )
    assert {g: k.tolist() for g, k in bare.items()} == {
        g: k.tolist() for g, k in with_labels.items()
    }


@pytest.mark.parametrize("method", ["l1", "random"])
def test_criterion_that_needs_no_labels_takes_bare_inputs(net, images, method):
    assert mipp.prune(net, [images], method=method).selection.method == method


def unread():
    """Calibration that must not be touched."""
    pytest.fail("read calibration data before it looked at its arguments")
    yield


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"method": "L1"}, ConfigError, r"'L1' .*is unknown; did you mean l1, l2\? choose from"),
        ({"repair": "refti"}, ConfigError, r"'refti' is unknown; did you mean refit\?"),
        ({"order": "im"}, ConfigError, "order.*'im'"),
        ({"min_channels": -1}, ConfigError, "min_channels.*-1"),
        ({"images": -1}, ConfigError, "images.*-1"),
        (
            {"latency_batch": 0, "budget": "latency:0.5"},
            ConfigError,
            "latency_batch.*at least 1.*got 0",
        ),
        ({"budget": "latency:1.5"}, BudgetError, r"(?s)out of range.*\(0, 1\].*'1\.5'"),
        ({"budget": "macs:1.5"}, BudgetError, r"(?s)out of range.*\(0, 1\].*'1\.5'"),
        ({"budget": "mac:0.5"}, BudgetError, "did you mean macs"),
    ],
)
def test_argument_is_refused_before_any_work(net, arguments, error, match):
    with pytest.raises(error, match=match):
        mipp.prune(net, unread(), **arguments)


def test_unreachable_budget_is_refused_with_one_that_can_be_reached(net, loader):
    with pytest.raises(BudgetError, match=r"(?s)cannot be reached.*at least macs:.*relax") as error:
        mipp.prune(net, loader, "macs:0.001")
    named = re.search(r"at least (macs:\S+)", str(error.value)).group(1)
    assert float(named.removeprefix("macs:")) == pytest.approx(
        macs_by_hand(1, 1) / macs_by_hand(8, 12), abs=1e-4
    )
    assert kept(mipp.prune(net, loader, named)).keys() == {"conv1", "conv2"}


def test_budget_that_only_the_floors_meet_is_met(net, loader):
    pruned = mipp.prune(net, loader, "ratio:0.8", min_channels=2)  # 16 of 20 units
    assert [len(channels) for channels in kept(pruned).values()] == [2, 2]


def test_nats_are_refused_for_a_score(net, loader):
    with pytest.raises(BudgetError, match=r"(?s)nats:1.*ratio, params, macs or latency"):
        mipp.prune(net, loader, "nats:1", method="l1")


def test_network_without_anything_to_prune_is_refused(images):
    lone = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(InputError, match=r"(?s)no channels to prune.*feeds another"):
        mipp.prune(lone, [images])


def test_nan_in_the_inputs_names_the_batch(net, images):
    broken = images.clone()
    broken[7, 0, 3, 3] = torch.nan
    with pytest.raises(mipp.MippError, match="batch 0 holds NaN or infinity"):
        mipp.prune(net, [broken])


@pytest.mark.parametrize(
    ("options", "widths"),
    [
        ({"ignore": ["conv1"]}, {"conv1": {8}}),
        ({"keep_outputs": ["conv2"]}, {"conv2": {12}}),
        ({"keep_inputs": ["head"]}, {"conv2": {12}}),
        ({"limits": {"conv*": 0.25}, "budget": "macs:0.7"}, {"conv1": {6, 7, 8}}),
        ({"round_to": 4}, {"conv1": {4, 8}, "conv2": {4, 8, 12}}),
    ],
)
def test_what_may_go_can_be_limited(net, loader, options, widths):
    pruned = mipp.prune(net, loader, **options)
    for group, allowed in widths.items():
        assert len(pruned.selection.kept[group]) in allowed
    assert pruned.report.macs < pruned.report.macs_dense


@pytest.mark.parametrize("method", ["mipp", pytest.param("l1", marks=pytest.mark.slow)])
def test_budget_of_time_is_measured_and_reported(net, loader, method):
    pruned = mipp.prune(net, loader, "latency:0.8", method=method, latency_batch=256)
    times = pruned.report.latency
    assert times.wanted == 0.8
    assert times.circumstances["batch"] == 256
    modules = [m for curve in times.to_json()["table"]["curves"] for m in curve["modules"]]
    assert sorted(modules) == ["conv1", "conv2", "head", "norm"]
    share = 100 * times.best().measured
    assert f"latency {share:.1f} % of the dense network's" in str(pruned.report)
    assert pruned.selection.provenance["budget"] == "latency:0.8"
    assert times.best().predicted < 1 or pruned.selection.units_removed() == 0


def test_other_budgets_report_no_time(net, loader):
    assert mipp.prune(net, loader).report.latency is None


@pytest.mark.parametrize(
    "estimator", ["gaussian", pytest.param("reconstruction", marks=pytest.mark.slow)]
)
def test_confidence_needs_no_ratio(net, loader, estimator):
    loose, strict = (
        mipp.prune(net, loader, f"confidence:{x}", estimator=estimator) for x in (51, 99.9)
    )
    assert strict.selection.units_removed() >= loose.selection.units_removed()
    assert 0 < strict.selection.units_removed() < 1


@pytest.mark.slow
def test_number_of_threads_does_not_change_the_choice(seed):
    torch.manual_seed(seed)
    model = build_model(ModelSpec("resnet20", 10, 3, 32), seed=seed).eval()
    images = torch.randn(96, 3, 32, 32)
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(mipp.prune(model, images, "macs:0.5", repair="none").selection.kept)
    finally:
        torch.set_num_threads(threads)
    assert {group: kept.tolist() for group, kept in found[0].items()} == {
        group: kept.tolist() for group, kept in found[1].items()
    }
