"""Both doors agree: `mipp.prune` and the stages give the same units and the same weights."""

import numpy as np
import pytest
import torch

import mipp
from mipp.checkpoint import load_checkpoint
from mipp.cli import main
from mipp.config import load_params, write_params
from mipp.disk.storage import Workdir
from mipp.stages import STAGES, run_stage
from mipp.stages.files import load_selection
from mipp.stages.sharing import share_stages
from mipp.stages.splits import load_splits

IMAGES = 384
SHARED = (
    f"data.calibration={IMAGES}",
    "train.epochs=2",
    f"prune.images={IMAGES}",
    "compute.device=cpu",
    "compute.runner=serial",
)
UNTIL_PRUNED = ("train", "extract", "estimate", "choose", "prune")
CASES = [
    ("macs:0.5", {}),
    ("ratio:0.5", {"order": "mi"}),
    ("confidence:95", {}),
    ("macs:0.5", {"method": "l1"}),
    ("macs:0.5", {"method": "taylor"}),
]


def params_of(budget, options):
    chosen = [f"choose.{key}={value}" for key, value in options.items()]
    return load_params(overrides=[*SHARED, f"choose.budget={budget}", *chosen])


def run_stages(workdir, params, stages):
    for stage in stages:
        run_stage(STAGES[stage], Workdir(workdir), params)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A work directory that holds LeNet-5, trained on the digits, and its estimates."""
    workdir = tmp_path_factory.mktemp("doors") / "work"
    run_stages(workdir, params_of("macs:0.5", {}), UNTIL_PRUNED[:3])
    return workdir


def batches_of(params, size):
    """The calibration images as a loader gives them."""
    return list(load_splits(params).calibration.batches(size))


@pytest.mark.parametrize(
    ("budget", "options"), CASES, ids=["threshold", "mi order", "confidence", "l1", "taylor"]
)
def test_both_doors_give_the_same_units_and_weights(trained, tmp_path, budget, options):
    params = params_of(budget, options)
    share_stages(tmp_path, Workdir(trained))
    run_stages(tmp_path, params, UNTIL_PRUNED)
    dense = load_checkpoint(tmp_path / "train/model.safetensors").model.eval()
    loader = batches_of(params, params.extract.batch_size)
    pruned = mipp.prune(dense, loader, budget, images=IMAGES, seed=params.seed, **options)
    selection = load_selection(tmp_path)
    assert selection.kept.keys() == pruned.selection.kept.keys()
    for group, channels in selection.kept.items():
        np.testing.assert_array_equal(channels, pruned.selection.kept[group])
    assert 0 < selection.units_removed() < 1
    repaired = load_checkpoint(tmp_path / "prune/refit.safetensors").model.state_dict()
    for name, tensor in pruned.model.state_dict().items():
        assert torch.equal(tensor, repaired[name]), name


def test_both_doors_foretell_the_same_of_budgets(trained, capsys):
    budgets = ["macs:0.7", "params:0.4"]
    params = params_of("macs:0.5", {})
    dense = load_checkpoint(trained / "train/model.safetensors").model.eval()
    loader = batches_of(params, params.extract.batch_size)
    expected = mipp.Pruner(dense, loader, images=IMAGES, seed=params.seed).frontier(budgets)
    write_params(params, trained / "params.yaml")
    assert main(["budget", "--workdir", str(trained), "--budgets", *budgets]) == 0
    assert capsys.readouterr().out == f"{expected}\n"


def test_budgets_of_a_folder_without_estimates_are_refused(tmp_path, capsys):
    assert main(["budget", "--workdir", str(tmp_path)]) == 2
    assert "stage 'train' is missing" in capsys.readouterr().err
