"""Distillation: what it learns from, that it is never worse than the refit, and who can have it."""

import copy
from collections import namedtuple
from dataclasses import dataclass, replace

import pytest
import torch
from digits_network import Residual, digits, residual, trained
from oracles import OWN_NETWORKS, build_own, in_one, own_images, small_vit
from torch import nn

import mipp
from mipp.checkpoint import load_checkpoint
from mipp.config import load_params
from mipp.cut import apply_selection
from mipp.disk.storage import Workdir
from mipp.distill import lessons
from mipp.distill.views import flipped, moved, plain, views_for
from mipp.errors import ConfigError
from mipp.graph import build_graph
from mipp.pruning import oneshot, repair
from mipp.pruning.calibration import Held
from mipp.selection.selection import Selection
from mipp.stages import STAGES, run_stage
from mipp.stages.networks import load_dense
from mipp.stages.splits import load_splits
from mipp.vision import torchvision
from tests.smallest_run import SMALLEST

IMAGES = 32
SHORT = mipp.Distill(steps=6)
LEARNS = mipp.Distill(steps=30, lr=1e-2)  # from 96 images or more


def cuts(model, batches, *repairs, budget="macs:0.3", **options):
    """The same plan, cut and repaired in several ways."""
    pruner = mipp.Pruner(model, batches, **options)
    plan = pruner.plan(budget)
    return [pruner.cut(plan, repair) for repair in repairs]


def both(model, images, repair, budget="macs:0.3"):
    """A network refitted to the inputs that are learned from, and the distilled one."""
    pruner = mipp.Pruner(model, [images])
    plan = pruner.plan(budget)
    learned = images[torch.arange(len(images)) % 10 > 0]
    return mipp.Pruner(model, [learned]).cut(plan), pruner.cut(plan, repair)


def error(model, dense, x):
    """Squared error of all outputs as a share of their variance, on inputs (n, ...)."""
    with torch.no_grad():
        made, wanted = in_one(model.eval()(x)), in_one(dense.eval()(x))
    return float((made - wanted).square().mean() / wanted.var(correction=0))


def held(images):
    """A tenth, which is not learned from."""
    return images[::10]


def weights(pruned):
    return torch.cat([tensor.flatten() for tensor in pruned.model.state_dict().values()])


def equal(first, second):
    return torch.equal(weights(first), weights(second))


# What it is for


def test_distilled_network_is_nearer_to_the_dense_one_on_inputs_it_has_not_seen():
    model, images = residual(), digits(192)
    before = copy.deepcopy(model.state_dict())
    refitted, found = both(model, images, LEARNS)
    fresh = digits(1797)[192:]
    assert error(found.model, model, fresh) < 0.9 * error(refitted.model, model, fresh)
    report = found.report.distilled
    assert (report.inputs, report.held_out, report.left) == (172, 20, "")
    assert report.after == pytest.approx(error(found.model, model, held(images)))
    assert report.before == pytest.approx(error(refitted.model, model, held(images)))
    assert f"in {report.steps} steps" in str(found.report)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


@pytest.mark.parametrize("name", OWN_NETWORKS)
def test_distilled_network_is_never_worse_than_the_refitted_one_on_inputs_held_out(name):
    model, images = build_own(name), own_images(IMAGES)
    refitted, found = both(model, images, SHORT, budget="macs:0.6")
    after, before = (error(made.model, model, held(images)) for made in (found, refitted))
    assert after <= before
    assert equal(found, refitted) == bool(found.report.distilled.left) == (after == before)


def test_what_makes_it_worse_is_undone_and_said():
    refitted, found = both(residual(), digits(IMAGES), mipp.Distill(steps=6, lr=100))
    assert equal(found, refitted)
    assert "not distilled: training did not make it better" in str(found.report)


def test_distilled_network_trains_comes_back_and_is_exported(tmp_path):
    model, images = residual().float(), digits(IMAGES).float()
    found = mipp.Pruner(model, [images])
    found = found.cut(found.plan("macs:0.5"), SHORT)
    with torch.no_grad():
        expected = found.model(images)
    saved = mipp.Checkpoint(found.model, None, found.selection, (1, 8, 8))
    mipp.save_checkpoint(tmp_path / "pruned.safetensors", saved)
    again = mipp.load_checkpoint(tmp_path / "pruned.safetensors", residual().float).model
    torch.testing.assert_close(again.eval()(images), expected)
    (program,) = mipp.export_network(found.model, (1, 8, 8), tmp_path, kinds=["torch"])
    run = torch.export.load(program.path).module()
    torch.testing.assert_close(run(images), expected)
    assert not found.model.training
    found.model.train()(images).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in found.model.parameters())


def test_prune_distils_by_name(monkeypatch):
    assert oneshot.REPAIRS["distill"] == mipp.Distill()
    monkeypatch.setitem(oneshot.REPAIRS, "distill", SHORT)
    found = mipp.prune(residual(), [digits(IMAGES)], "macs:0.3", repair="distill")
    assert equal(found, cuts(residual(), [digits(IMAGES)], SHORT)[0])


def test_stage_refits_once_and_distils_what_the_library_does(tmp_path, monkeypatch):
    quick = ("choose.method=l1", "prune.repair=distill", "prune.steps=20")
    params = load_params(overrides=[*SMALLEST, *quick])
    for stage in ("train", "choose"):
        run_stage(STAGES[stage], Workdir(tmp_path), params)
    refits = []
    refit = repair.refit
    monkeypatch.setattr(repair, "refit", lambda *given: refits.append(1) or refit(*given))
    run_stage(STAGES["prune"], Workdir(tmp_path), params)
    assert len(refits) == 1
    dense = load_dense(tmp_path, torch.device("cpu"))
    images = next(load_splits(params).calibration.batches(128))[0]
    wanted = Selection.from_json((tmp_path / "choose/selection.json").read_text())
    cut = repair.Cut(None, dense.model, build_graph(dense.model, images[:1]), wanted)
    for file, whole, seen in (
        ("refit", mipp.Refit(), images[torch.arange(128) % 10 > 0]),
        ("distilled", mipp.Distill(steps=20), images),
    ):
        by_hand = replace(cut, model=apply_selection(dense.model, wanted, images[:1]))
        repair.mend(by_hand, whole, Held(dense.model, [seen], 128), params.seed)
        made = load_checkpoint(tmp_path / f"prune/{file}.safetensors").model.state_dict()
        for name, tensor in by_hand.model.state_dict().items():
            assert torch.equal(tensor, made[name]), (file, name)


# Settings


def test_without_a_refit_it_goes_on_from_the_network_as_it_is():
    model, images = residual(), [digits(96)]
    cut, found, refitted = cuts(model, images, mipp.NoRepair(), replace(LEARNS, refit=None), LEARNS)
    assert not found.report.unfitted
    assert not equal(found, refitted)
    before = error(cut.model, model, held(images[0]))
    assert found.report.distilled.before == pytest.approx(before)


def test_same_seed_gives_the_same_network_and_another_seed_another():
    first, again, other = (
        cuts(residual(), [digits(96)], LEARNS, seed=seed)[0] for seed in (0, 0, 1)
    )
    assert equal(first, again)
    assert not equal(first, other)


@pytest.mark.parametrize("option", [{"lr": 5e-3}, {"stages": 0}, {"views": "none"}, {"steps": 20}])
def test_option_changes_the_network(option):
    first, second = cuts(residual(), [digits(96)], LEARNS, replace(LEARNS, **option))
    assert not equal(first, second)


def test_time_ends_a_training_and_its_schedule():
    (found,) = cuts(residual(), [digits(96)], replace(LEARNS, steps=10**5, seconds=1))
    assert 0 < found.report.distilled.steps < 10**4


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"steps": 0}, "Distill.steps"),
        ({"seconds": 0}, "Distill.seconds"),
        ({"seconds": "1"}, "Distill.seconds"),
        ({"stages": -1}, "Distill.stages"),
        ({"views": "flip"}, "Distill.views"),
    ],
)
def test_setting_out_of_bounds_is_refused(option, said):
    with pytest.raises(ConfigError, match=said):
        mipp.Distill(**option)


# Views


def drawn(model, views, count=9):
    return views_for(model, own_images(16), views, count, torch.Generator().manual_seed(0))


def mirrored(view):
    """Whether a view turns left into right: of images that brighten from left to right."""
    ramp = torch.arange(1.0, 33).expand(1, 1, 32, 32)
    inner = view(ramp)[0, 0, 16, 6:26]
    return bool(inner[0] > inner[-1])


def test_views_are_those_under_which_the_network_answers_alike():
    where = nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).double()
    rows = nn.AvgPool2d((1, 8))  # tell up from down, but not left from right
    sums = nn.AvgPool2d(8)
    assert drawn(where, "auto") == [plain]
    assert drawn(rows, "auto") == [plain, flipped]
    found = drawn(sums, "auto")
    assert found[0] is plain
    assert len(found) == 9
    assert 0 < sum(map(mirrored, found)) < 9


def test_digits_are_moved_and_not_mirrored():
    found = views_for(trained(), digits(64), "auto", 9, torch.Generator().manual_seed(0))
    assert len(found) == 9
    assert not any(map(mirrored, found))


def test_views_asked_for_are_taken_whatever_the_network_answers():
    where = nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).double()
    assert drawn(where, "none") == [plain]
    assert not any(map(mirrored, drawn(where, "shift")))
    assert len(drawn(where, "shift")) == 9
    assert any(map(mirrored, drawn(where, "flip-shift")))


def test_moved_images_have_zeros_at_their_edges():
    images = own_images(2)
    found = moved(1 / 8, -1 / 4)(images)
    assert torch.equal(found[:, :, 1:, :-2], images[:, :, :-1, 2:])
    assert not found[:, :, 0].any()
    assert not found[..., -2:].any()


@pytest.mark.parametrize(
    "inputs",
    [
        torch.randn(4, 3, 4, 4),
        torch.randn(4, 16, 8, 8),
        torch.zeros(4, 9).long(),
        torch.randn(4, 9),
    ],
)
def test_what_is_no_image_has_no_views(inputs):
    draw = torch.Generator().manual_seed(0)
    assert views_for(nn.Identity(), inputs, "flip-shift", 6, draw) == [plain]


# Networks and inputs of every kind

Named = namedtuple("Named", "first second")


@dataclass
class Answer:
    scores: torch.Tensor
    boxes: list


WAYS = {
    "tuple": lambda y: (y, y.argmax(1)),
    "dict": lambda y: {"scores": y, "more": [y[:, :2].square()], "best": y.argmax(1)},
    "named tuple": lambda y: Named(y, y.T),  # of which the images lie along another axis
    "data class": lambda y: Answer(y, [y.sum(0)]),
}


class Wrapped(nn.Module):
    def __init__(self, way, network):
        super().__init__()
        self.way, self.network = way, network

    def forward(self, *inputs):
        return self.way(self.network(*inputs))


@pytest.mark.parametrize("way", WAYS)
def test_outputs_of_any_kind_are_learned(way):
    model = Wrapped(WAYS[way], residual()).eval()
    networks = (made.model.network for made in both(model, digits(96), LEARNS))
    before, after = (error(network, model.network, held(digits(96))) for network in networks)
    assert after < before


def test_transformer_is_distilled():
    model, images = small_vit(), torch.randn(24, 3, 32, 32).double()
    refitted, found = both(model, images, mipp.Distill(steps=12), budget="macs:0.5")
    after, before = (error(made.model, model, held(images)) for made in (found, refitted))
    assert after <= before


class Two(Residual):
    def forward(self, left, right):
        return super().forward(left) - super().forward(right)


@pytest.mark.parametrize("kind", ["tuple", "mapping"])
def test_several_inputs_are_learned_from(kind):
    model, pair = Two().double().eval(), (digits(96), digits(96, seed=1))
    model.load_state_dict(trained().state_dict())
    inputs = pair if kind == "tuple" else dict(zip(("left", "right"), pair, strict=True))
    (found,) = cuts(model, [(inputs, None)], LEARNS)
    assert found.report.distilled.after < found.report.distilled.before


def test_answers_that_do_not_fit_are_computed_anew(monkeypatch):
    (kept,) = cuts(residual(), [digits(IMAGES)], SHORT)
    monkeypatch.setattr(lessons, "ANSWERS", 0)
    (anew,) = cuts(residual(), [digits(IMAGES)], SHORT)
    assert equal(kept, anew)


def test_frozen_network_is_left_as_the_refit_made_it():
    model = residual().requires_grad_(False)
    refitted, found = both(model, digits(IMAGES), SHORT)
    assert equal(refitted, found)
    assert "not distilled: its parameters are frozen" in str(found.report)


def test_frozen_norm_keeps_its_statistics_and_momentum():
    model = residual()
    model.norm.requires_grad_(False).momentum = 0.3
    refitted, found = both(model, digits(96), LEARNS)
    assert not equal(refitted, found)
    for name in ("running_mean", "running_var", "weight", "momentum"):
        before, after = getattr(refitted.model.norm, name), getattr(found.model.norm, name)
        assert torch.equal(torch.as_tensor(before), torch.as_tensor(after))


def test_norm_without_momentum_has_none_afterwards():
    model = residual()
    model.norm = torchvision.ops.FrozenBatchNorm2d(12).double()
    (found,) = cuts(model, [digits(IMAGES)], SHORT)
    assert not hasattr(found.model.norm, "momentum")


def test_norm_gets_its_momentum_back():
    model = residual()
    model.norm.momentum = 0.3
    (found,) = cuts(model, [digits(IMAGES)], SHORT)
    assert found.model.norm.momentum == 0.3


class Unlearning(Residual):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


def test_network_that_cannot_learn_is_left_as_the_refit_made_it():
    refitted, found = both(Unlearning().double().eval(), digits(IMAGES), SHORT)
    assert equal(refitted, found)
    assert "not distilled: training did not make it better" in str(found.report)


class Failing(Residual):
    def forward(self, x):
        y = super().forward(x)
        if y.requires_grad:
            y.register_hook(self.fail)
        return y

    def fail(self, gradient):
        raise RuntimeError("no way back")


def test_network_whose_training_fails_is_left_as_the_refit_made_it():
    refitted, found = both(Failing().double().eval(), digits(IMAGES), SHORT)
    assert equal(refitted, found)
    assert "not distilled: it cannot be trained: RuntimeError: no way back" in str(found.report)


def test_single_input_cannot_be_held_out():
    (found,) = cuts(residual(), [digits(1)], SHORT)
    assert "not distilled: it takes two inputs" in str(found.report)
