"""Large images go through a network few at a time, whatever batch size a stage is given."""

import pytest
import torch
from torch import nn

from mipp.config import load_params
from mipp.disk.storage import Workdir
from mipp.stages import STAGES, run_stage, splits
from tests.smallest_run import SMALLEST

FEW = 9


@pytest.fixture
def large(monkeypatch):
    """Makes images of 8 x 8 pixels large: few of them are as many bytes as one pass may take."""
    monkeypatch.setattr(splits, "AT_ONCE", FEW * 4 * 8 * 8 + 1)


def sizes_of(workdir, *overrides):
    """Sizes of the batches that each stage runs networks on."""
    params, sizes = load_params(overrides=[*SMALLEST, *overrides]), {}
    for name in tuple(STAGES)[:-1]:  # the report runs no network
        seen = sizes.setdefault(name, set())
        watch = nn.modules.module.register_module_forward_pre_hook(
            lambda module, inputs, seen=seen: seen.add(len(inputs[0]))
        )
        run_stage(STAGES[name], Workdir(workdir), params)
        watch.remove()
    return sizes


@pytest.mark.parametrize(("method", "searched"), [("mipp", "extract"), ("taylor", "choose")])
def test_stages_take_few_large_images_at_once(method, searched, tmp_path, large):
    sizes = sizes_of(tmp_path, f"choose.method={method}", "evaluate.latency_batch=4")
    assert max(sizes[searched]) == max(sizes["evaluate"]) == FEW


def test_repairs_read_few_large_images_at_once(large):
    params = load_params(overrides=SMALLEST)
    images = splits.SplitCalibration(
        lambda: splits.load_splits(params).calibration, (1, 8, 8), 1024, torch.device("cpu")
    )
    assert [len(batch) for batch in images.inputs()] == [FEW] * 14 + [128 - 14 * FEW]


def test_rows_are_those_of_as_small_a_batch_size(tmp_path, monkeypatch):
    def rows(workdir, *overrides):
        params = load_params(overrides=[*SMALLEST, "train.epochs=0", *overrides])
        for stage in ("train", "extract"):
            run_stage(STAGES[stage], Workdir(workdir), params)
        moments = sorted((workdir / "extract/moments").iterdir())
        return [file.read_bytes() for file in moments]

    asked = rows(tmp_path / "asked", f"extract.batch_size={FEW}")
    monkeypatch.setattr(splits, "AT_ONCE", FEW * 4 * 8 * 8 + 1)
    assert asked
    assert rows(tmp_path / "bounded") == asked
