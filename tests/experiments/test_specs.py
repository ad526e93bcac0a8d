"""Every experiment of the repository can be read, and its smoke scale runs on digits."""

from pathlib import Path

import pytest

from mipp.cli import main
from mipp.errors import CheckpointError
from mipp.experiments.points import expand
from mipp.experiments.results import TABLE, read_table
from mipp.experiments.spec import SCALES, load_experiment

FILES = sorted(set(Path("experiments").glob("*.yaml")) - {Path("experiments/ratios.dvc.yaml")})
PAPER = (  # METHOD table of the first version, and what the second adds
    "lenet5-mnist", "lenet5-mnist-deformed", "vgg11-cifar10", "resnet18-cifar10",
    "resnet34-cifar10", "vgg19-cifar100", "resnet50-cifar100", "resnet50-imagenet",
    "vgg16-cifar10", "vgg16-tinyimagenet", "resnet18-tinyimagenet",
)  # fmt: skip


def test_the_papers_experiments_are_there():
    assert set(PAPER) <= {file.stem for file in FILES}


@pytest.mark.parametrize(
    "scale", [s if s == "smoke" else pytest.param(s, marks=pytest.mark.slow) for s in SCALES]
)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_grid_is_whole_at_every_scale(file, scale):
    experiment = load_experiment(file, scale)
    try:
        points = expand(experiment)
    except CheckpointError:
        assert experiment.weights  # a checkpoint that this machine lacks, named
        return
    assert len({point.name for point in points}) == len(points)
    names = {point.params.data.name for point in points}
    assert (names == {"digits"}) == (scale == "smoke" or file.stem.startswith("digits"))


@pytest.mark.slow  # sixteen networks, the large ones among them
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_smoke_scale_runs(file, tmp_path):
    assert main(["sweep", str(file), "--scale", "smoke", "--root", str(tmp_path), "--quiet"]) == 0
    rows, about = read_table(tmp_path / TABLE)
    assert len(rows) == int(about["points"])


@pytest.mark.parametrize(
    ("method", "changes"), [("mipp", True), ("random-same-widths", True), ("l1", False)]
)
def test_only_points_whose_result_depends_on_it_are_new_after_a_change(method, changes):
    experiment = load_experiment(Path("experiments/digits.yaml"), "smoke")
    experiment = experiment.model_copy(update={"methods": (method,)})
    names = [
        {point.name for point in expand(experiment, overrides)}
        for overrides in ([], ["choose.worth=nats"], ["choose.min_channels=2"])
    ]
    assert names[0].isdisjoint(names[1]) == changes
    assert names[0].isdisjoint(names[2])
