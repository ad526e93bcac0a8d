"""What a plane looks at, and `mipp plane` of a run."""

import logging

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from mipp.cli import main
from mipp.errors import DataError
from mipp.report.run import read_run
from mipp.stages.plane import values_read
from tests.smallest_run import SMALLEST

QUICK = (*SMALLEST, "train.epochs=3", "finetune.epochs=0", "choose.method=l1")


class Branches(nn.Module):
    """Two layers that read the images, one that reads both, one that reads a map."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(1, 3, 3, padding=1)
        self.both = nn.Conv2d(5, 4, 1)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        both = torch.cat([self.left(x).relu(), self.right(x)], 1)
        return self.head(self.both(both).tanh().mean((2, 3)))


def test_values_are_what_layers_read_and_the_outputs():
    torch.manual_seed(0)
    model = Branches().train()
    images = torch.randn(5, 1, 4, 4)
    found = values_read(model, images.split(2), 5)
    assert list(found) == ["both", "head", "output"]
    read = torch.cat([model.left(images).relu(), model.right(images)], 1)
    assert torch.allclose(found["both"], read.flatten(1))
    assert torch.allclose(found["head"], model.both(read).tanh().mean((2, 3)), atol=1e-6)
    assert torch.allclose(found["output"], model(images), atol=1e-6)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_more_images_than_fit_are_refused_with_how_many_do():
    with pytest.raises(DataError, match=r"at most 2 GiB for a plane, got more; pass --images \d+"):
        values_read(Branches(), [torch.zeros(1, 1, 64, 64)], 10**7)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--images=1", "Expected at least 2"),
        ("--every=0", "Expected at least 1"),
        ("--resolution=0", "more than 0 and at most 10"),
        ("--every=1", "has no run"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, capsys, option, text):
    assert main(["plane", "--workdir", str(tmp_path / "w"), option]) == 2
    assert text in capsys.readouterr().err


@pytest.mark.slow
def test_plane_of_a_run_is_in_its_report_until_the_run_is_another(tmp_path, caplog, capsys):
    work = str(tmp_path / "w")
    run = ["run", "--workdir", work, "--quiet", *(f"--set={one}" for one in QUICK)]
    assert main(run) == 0
    assert read_run(tmp_path / "w").plane is None
    with caplog.at_level(logging.WARNING):
        assert main(["plane", "--workdir", work, "--every", "2", "--quiet"]) == 0
    assert "other weights" not in caplog.text
    rows, told = read_run(tmp_path / "w").plane
    looked_at = [row["network"] for row in rows if row["layer"] == "output"]
    assert looked_at == ["training"] * 3 + ["dense", "pruned", "refit", "finetuned"]
    assert {row["epoch"] for row in rows} == {0, 2, 3, None}
    trained = [row["inputs"] for row in rows if row["network"] == "training" and row["epoch"] == 3]
    dense = [row["inputs"] for row in rows if row["network"] == "dense"]
    assert trained == dense  # the training that is repeated ends where the first one did
    assert told["images"] == 128
    assert (tmp_path / "w/report/figures/plane.png").exists()
    kept = (tmp_path / "w/plane/plane.parquet").stat().st_mtime_ns
    assert main(["plane", "--workdir", work, "--every", "2", "--quiet"]) == 0
    assert (tmp_path / "w/plane/plane.parquet").stat().st_mtime_ns == kept
    cells = ["plane", "--workdir", work, "--every", "2", "--quiet", "--estimator", "cells"]
    assert main(cells) == 0
    points = pq.read_table(tmp_path / "w/plane/plane.parquet").to_pylist()
    assert all(row["labels"] <= row["inputs"] + 1e-9 for row in points)
    assert main([*run, "--set=seed=1"]) == 0
    assert read_run(tmp_path / "w").plane is None
    assert not (tmp_path / "w/report/figures/plane.png").exists()
