"""A run of a network with an attention: what its stages measure, cut, keep and report."""

import json

import pytest
import torch

from mipp.checkpoint import load_checkpoint
from mipp.config import load_params
from mipp.data import load_data
from mipp.disk.storage import Workdir
from mipp.errors import BudgetError, ConfigError
from mipp.metrics import count_macs, count_params
from mipp.stages import preflight, run_all
from tests.smallest_run import SMALLEST

SMALL = (*SMALLEST, "model.name=test_neighbours:Attending", "train.epochs=2")
NARROW = (*SMALL, "model.narrow_heads=0.3", "choose.budget=macs:0.6")
SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("narrow") / "work"
    run_all(Workdir(folder), load_params(overrides=NARROW))
    return folder


def network(file):
    return load_checkpoint(file).model.eval()


def test_run_keeps_the_dense_network_beside_that_with_narrower_heads(workdir):
    dense = network(workdir / "train/model.safetensors")
    narrow = network(workdir / "train/narrow.safetensors")
    assert (dense.attention.head_dim, narrow.attention.head_dim) == (16, 8)


def test_every_network_of_the_run_has_narrower_heads(workdir):
    for name in ("prune/pruned", "prune/refit", "finetune/model"):
        assert network(workdir / f"{name}.safetensors").attention.head_dim == 8


def test_shares_are_of_the_dense_network(workdir):
    metrics = json.loads((workdir / "evaluate/metrics.json").read_text())
    dense = network(workdir / "train/model.safetensors")
    final = network(workdir / "finetune/model.safetensors")
    assert metrics["macs_dense"] == count_macs(dense, SHAPE)
    assert metrics["params_dense"] == count_params(dense)
    assert metrics["macs"] == count_macs(final, SHAPE) <= 0.6 * count_macs(dense, SHAPE)
    images = load_data(load_params(overrides=SMALL).data, seed=0, channels=1, size=8).test
    with torch.inference_mode():
        right = sum(int((dense(x).argmax(1) == y).sum()) for x, y in images.batches(64))
    assert metrics["accuracy_dense"] == pytest.approx(right / len(images))


def test_run_of_wide_heads_has_one_dense_network(tmp_path):
    run_all(Workdir(tmp_path), load_params(overrides=(*SMALL, "model.narrow_heads=1")))
    assert not (tmp_path / "train/narrow.safetensors").exists()
    assert network(tmp_path / "prune/pruned.safetensors").attention.head_dim == 16


def test_what_is_to_be_left_alone_is_refused_before_anything_runs(tmp_path):
    overrides = (*SMALL, "choose.ignore=[attention]", "choose.budget=macs:0.9")
    match = r"choose.ignore: 'attention' asks[\s\S]*model.narrow_heads=1"
    with pytest.raises(ConfigError, match=match):
        preflight(Workdir(tmp_path), load_params(overrides=overrides))
    preflight(Workdir(tmp_path), load_params(overrides=(*overrides, "model.narrow_heads=1")))


def test_budget_that_only_narrower_heads_reach_is_not_refused(tmp_path):
    overrides = (*NARROW, "choose.min_channels=1000", "choose.budget=macs:0.9")  # all units stay
    with pytest.raises(BudgetError, match="at least macs:1 "):
        preflight(Workdir(tmp_path), load_params(overrides=(*overrides, "model.narrow_heads=1")))
    run_all(Workdir(tmp_path), load_params(overrides=overrides))
    assert count_macs(network(tmp_path / "prune/pruned.safetensors"), SHAPE) <= 0.9 * count_macs(
        network(tmp_path / "train/model.safetensors"), SHAPE
    )
    with pytest.raises(BudgetError, match="cannot be reached"):
        preflight(Workdir(tmp_path), load_params(overrides=(*overrides, "choose.budget=macs:0.5")))


def test_rounds_end_with_the_same_narrower_heads(tmp_path):
    overrides = (*NARROW, "finetune.rounds=2", "finetune.epochs=2")
    run_all(Workdir(tmp_path), load_params(overrides=overrides))
    final = network(tmp_path / "finetune/model.safetensors")
    dense = network(tmp_path / "train/model.safetensors")
    assert final.attention.head_dim == 8
    assert count_macs(final, SHAPE) <= 0.6 * count_macs(dense, SHAPE)
