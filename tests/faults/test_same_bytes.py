"""What gives the same bytes of selection, node table and weights, and what changes how much."""

import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import mipp
from mipp.config import load_params
from mipp.disk.storage import Workdir
from mipp.models import ModelSpec, build_model
from mipp.stages import STAGES, run_stage
from tests.smallest_run import SMALLEST

NODES, SELECTION = "choose/nodes.parquet", "choose/selection.json"
WEIGHTS = ("train/model.safetensors", "prune/refit.safetensors", "finetune/model.safetensors")
BEFORE = ("train", "extract", "estimate", "choose", "prune", "finetune")  # evaluate measures time
RUN = """
import sys, torch
from tests.faults.test_same_bytes import run_to
torch.set_num_threads(int(sys.argv[1]))
run_to(sys.argv[2])
"""


def run_to(folder, *overrides):
    params = load_params(overrides=[*SMALLEST, *overrides])
    for stage in BEFORE:
        run_stage(STAGES[stage], Workdir.open(folder), params)
    return Workdir.open(folder).folder


def others(one, two, files=(SELECTION, NODES, *WEIGHTS)):
    return [name for name in files if (one / name).read_bytes() != (two / name).read_bytes()]


def distance(one, two):
    """The largest distance of two tensors of a name, as a share of the first one's norm."""
    return max(
        float((tensor.double() - two[name].double()).norm() / tensor.double().norm().clamp_min(1))
        for name, tensor in one.items()
        if tensor.is_floating_point()
    )


@pytest.mark.xdist_group("faults")  # one process makes the run
@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param((), marks=pytest.mark.slow),
        pytest.param(("compute.runner=serial",), marks=pytest.mark.slow),
        ("compute.workers=4", "prune.batch_size=32"),
        pytest.param(("extract.shards=1", "evaluate.batch_size=7"), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_bytes_are_those_of_another_run(finished, tmp_path, overrides):
    assert others(finished.folder, run_to(tmp_path, *overrides)) == []


@pytest.mark.xdist_group("faults")  # one process makes the run
def test_images_per_pass_of_extraction_change_the_last_digits_of_nats_alone(finished, tmp_path):
    work = run_to(tmp_path, "extract.batch_size=64", "extract.shards=2")
    assert others(finished.folder, work, (SELECTION, *WEIGHTS)) == []
    nodes = [pq.read_table(folder / NODES).to_pylist() for folder in (finished.folder, work)]
    for expected, found in zip(*nodes, strict=True):
        for column, value in expected.items():
            if isinstance(value, float):
                value = pytest.approx(value, abs=1e-5)
            assert found[column] == value, column


def run_on(threads, folder, **environment):
    """A run in a process of its own on so many threads."""
    known = {**os.environ, "OMP_NUM_THREADS": str(threads), **environment}
    subprocess.run([sys.executable, "-c", RUN, str(threads), str(folder)], env=known, check=True)
    return folder


@pytest.mark.slow
def test_threads_change_no_selection_and_weights_by_less_than_a_thousandth(tmp_path):
    one, two = (run_on(threads, tmp_path / str(threads)) for threads in (1, 2))
    assert others(one, two, (SELECTION,)) == []
    for name in WEIGHTS:
        assert distance(load_file(one / name), load_file(two / name)) < 1e-3


@pytest.mark.slow
@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="this torch has no MKL")
def test_weights_on_any_threads_are_the_same_where_mkl_is_told_to(tmp_path):
    strict = {"MKL_CBWR": "AUTO,STRICT"}
    one, two = (run_on(threads, tmp_path / str(threads), **strict) for threads in (1, 2))
    assert others(one, two, (SELECTION, *WEIGHTS)) == []


@pytest.mark.parametrize("name", ["lenet5", pytest.param("resnet20", marks=pytest.mark.slow)])
def test_batches_of_the_loader_change_no_bit_of_a_refit(name):
    model, images = build_model(ModelSpec(name, 10, 1, 16), seed=0).eval(), images_of(192)
    expected = mipp.prune(model, images.split(64), "macs:0.5")
    for size in (7, 192):
        found = mipp.prune(model, images.split(size), "macs:0.5")
        assert found.selection.to_json() == expected.selection.to_json()
        for key, tensor in expected.model.state_dict().items():
            assert torch.equal(found.model.state_dict()[key], tensor), (size, key)


def test_batches_of_the_loader_change_recalibrated_statistics_by_a_tenth_at_most():
    """They are averaged over batches, so that a small batch counts as much as a large one."""
    model = build_model(ModelSpec("resnet20", 10, 1, 16), seed=0).eval()
    images, states = images_of(192), []
    for size in (64, 16, 192):
        found = mipp.prune(model, images.split(size), "macs:0.5", method="l1", repair="recalibrate")
        states.append(found.model.state_dict())
    assert 0 < max(distance(states[0], state) for state in states[1:]) < 0.1


def images_of(count):
    return torch.randn(count, 1, 16, 16, generator=torch.Generator().manual_seed(0))
