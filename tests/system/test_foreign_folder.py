"""A folder of somebody else, with mipp from its wheel: their network, their images, their method.

One file of theirs holds all three, and every door finds them: the command, the flow, DVC, a sweep
on processes, and Python.
"""

import json
import os
import subprocess

import pytest
import yaml
from wheel_environment import Installed

from mipp.stages import STAGES

pytestmark = pytest.mark.slow

MY_NET = '''
"""A network, images and a criterion, as their authors would write them."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

import mipp
from my_norms import spread


class Stripes(Dataset):
    """Stripes along one of the two axes, with noise."""

    classes = ("across", "along")

    def __init__(self, count, seed):
        random = np.random.default_rng(seed)
        self.labels = random.integers(2, size=count)
        lines = (np.arange(12) + random.integers(4, size=(count, 1))) % 4 < 2
        images = np.where(self.labels[:, None, None], lines[:, None, :], lines[:, :, None])
        noise = random.normal(0, 40, size=(count, 12, 12))
        self.images = np.clip(255 * images + noise, 0, 255).astype(np.uint8)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


def load():
    return Stripes(600, seed=0), Stripes(200, seed=1)


class Net(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.fc = nn.Linear(16 * 16, classes)

    def forward(self, x):
        x = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        return self.fc(self.pool(x).flatten(1))


@mipp.register_criterion("spread")
def score(given):
    layers = {name: given.model.get_submodule(name) for name in given.graph.groups}
    return {name: spread(layer.weight) for name, layer in layers.items()}
'''
MY_NORMS = """
def spread(weight):
    return weight.detach().flatten(1).std(1).cpu().numpy()
"""
PARAMS = {
    "model": {"name": "my_net:Net"},
    "data": {"name": "my_net:load", "calibration": 128},
    "choose": {"method": "my_net:score", "budget": "macs:0.5"},
    "train": {"epochs": 2},
    "finetune": {"epochs": 1},
    "extract": {"rows": 512},
    "evaluate": {"latency_repeats": 3, "latency_batch": 8},
    "compute": {"device": "cpu"},
}
SWEEP = {
    "title": "mine",
    "set": {"model.name": "my_net:Net", "data.name": "my_net:load", "data.calibration": 128},
    "methods": ["my_net:score", "l1"],
    "budgets": ["macs:0.5"],
    "seeds": [0],
}
DECORATED = """
import json, sys
import torch
import mipp, my_net
from mipp.config import DataConfig
from mipp.data import load_data

dense = mipp.load_checkpoint("work/train/model.safetensors").model
data = load_data(DataConfig(name="my_net:load", calibration=128), seed=0)
batches = list(data.calibration.batches(64))
pruned = mipp.prune(dense, batches, budget="macs:0.5", method="spread", images=128)
print(json.dumps({name: kept.tolist() for name, kept in pruned.selection.kept.items()}))
"""


class Folder(Installed):
    """Somebody's folder, and the commands of an environment that has mipp from its wheel."""

    def __init__(self, place):
        super().__init__(place)
        (self.folder / "my_net.py").write_text(MY_NET)
        (self.folder / "my_norms.py").write_text(MY_NORMS)
        (self.folder / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
        (self.folder / "few.yaml").write_text(yaml.safe_dump(PARAMS))
        every = self.call([self.bin / "mipp", "params", "--config", "few.yaml"])
        (self.folder / "params.yaml").write_text(every)

    def kept(self, workdir="work"):
        text = (self.folder / workdir / "choose/selection.json").read_text()
        return json.loads(text)["kept"]

    def edited(self):
        """Their file with the sign of the criterion inverted, in a file that it imports."""
        return MY_NORMS.replace("weight.detach()", "-weight.detach().abs()")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    return Folder(tmp_path_factory.mktemp("foreign"))


@pytest.fixture(scope="module")
def pruned(theirs):
    """Their folder after `mipp run`, by the command that the wheel installs."""
    said = theirs.call([theirs.bin / "mipp", "run", "--config", "params.yaml"])
    ran = [stage for stage in STAGES if f"{stage}: running" in said]
    assert ran == [stage for stage in STAGES if stage not in ("extract", "estimate")]
    return theirs


def test_mipp_comes_from_the_wheel(theirs):
    found = theirs.python("-c", "import mipp, tasks, flows; print(mipp.__file__)").strip()
    assert found.startswith(str(theirs.bin.parent))


def test_command_prunes_their_network_on_their_images_by_their_criterion(pruned):
    metrics = json.loads((pruned.folder / "work/evaluate/metrics.json").read_text())
    assert metrics["accuracy_dense"] > 0.9  # stripes are told apart
    assert metrics["macs"] <= 0.5 * metrics["macs_dense"]
    assert set(pruned.kept()) == {"conv1", "conv2"}


def test_flow_finds_all_three(pruned):
    pruned.python("-m", "flows.pipeline", "--workdir", "flow", "--config", "params.yaml")
    assert pruned.kept("flow") == pruned.kept()


def test_dvc_finds_all_three_and_notices_an_edit(pruned):
    pruned.call(["rm", "-rf", "work", "flow"])
    text = pruned.call([pruned.bin / "mipp", "dvc"])
    (pruned.folder / "dvc.yaml").write_text(text)
    pruned.python("-m", "dvc", "init", "--no-scm", "--quiet")
    said = pruned.python("-m", "dvc", "repro")
    stages = list(yaml.safe_load(text)["stages"])
    assert stages == [*STAGES, "track"]
    assert [s for s in stages if f"Running stage '{s}'" in said] == stages
    assert "my_norms.py" in yaml.safe_load(text)["stages"]["choose"]["deps"]
    norms, before = pruned.folder / "my_norms.py", pruned.kept()
    norms.write_text(pruned.edited())
    try:
        said = pruned.python("-m", "dvc", "repro")
        assert "Running stage 'choose'" in said
        assert pruned.kept() != before
    finally:
        norms.write_text(MY_NORMS)
        pruned.python("-m", "dvc", "repro")
    assert pruned.kept() == before


def test_processes_of_a_sweep_find_all_three(pruned):
    settings = ["--set=train.epochs=1", "--set=finetune.epochs=1", "--set=compute.device=cpu"]
    sweep = ["sweep", "sweep.yaml", "--root", "root", "--workers", "2"]
    said = pruned.call([pruned.bin / "mipp", *sweep, *settings])
    assert "2 of 2 points" in said


def test_criterion_that_they_register_does_the_same_from_python(pruned):
    kept = json.loads(pruned.python("-c", DECORATED).splitlines()[-1])
    assert kept == pruned.kept()


def test_edit_of_a_file_beside_theirs_is_noticed(pruned):
    """By every stage that imports it: here all, as the network and the images are in one file."""
    norms, run = pruned.folder / "my_norms.py", [pruned.bin / "mipp", "run", "--config"]
    assert "running" not in pruned.call([*run, "params.yaml"])
    norms.write_text(pruned.edited())
    try:
        said = pruned.call([*run, "params.yaml"])
    finally:
        norms.write_text(MY_NORMS)
    assert "train: running" in said
    assert "choose: running" in said


def test_file_that_is_gone_is_refused_with_where_it_was_looked_for(pruned):
    command = [pruned.bin / "mipp", "run", "--workdir", "other", "--set=model.name=my_nett:Net"]
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=pruned.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "there is no module my_nett" in done.stderr
    assert str(pruned.folder) in done.stderr
