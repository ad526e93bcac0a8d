"""`mipp prune CHECKPOINT`: the answers of `mipp.prune`, from a file to a file."""

import json
import sys
from argparse import ArgumentParser

import pytest
import torch

import mipp
from mipp.cli import main
from mipp.commands import one_network, prune
from mipp.config import DataConfig
from mipp.data import load_data
from mipp.models import ModelSpec, build_model

SPEC = ModelSpec("lenet-300-100", 10, 1, 8)
FEW = ("--images", "64", "--device", "cpu", "--quiet")
OWN = """
import torch
from torch import nn

IMAGES = torch.randn(64, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Sequential):
    def __init__(self):
        torch.manual_seed(1)
        super().__init__(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Flatten(),
            nn.Linear(24, 5),
        )


net, loader, number = Net(), [IMAGES[:40], IMAGES[40:]], 3


def batches(seed):
    return iter(loader)


def nothing():
    pass
"""


@pytest.fixture
def dense(tmp_path):
    """A checkpoint of a network that has a name."""
    path = tmp_path / "dense.safetensors"
    model = build_model(SPEC, seed=0)
    mipp.save_checkpoint(path, mipp.Checkpoint(model, SPEC, None, (1, 8, 8)))
    return path


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Name of a module of somebody's, with a network and loaders, where commands find it."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


def pruned_to(path, *arguments):
    """Weights that the command leaves; `build` of networks without a name is not needed."""
    assert main(["prune", *map(str, arguments), "--out", str(path), *FEW]) == 0
    return path.read_bytes()


@pytest.mark.parametrize("options", [{}, {"method": "l1", "repair": "none", "round_to": 4}])
def test_file_is_byte_for_byte_that_of_the_python_door(options, dense, tmp_path):
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    said = pruned_to(tmp_path / "small.safetensors", dense, "--data=digits", *words)
    data = load_data(DataConfig(name="digits", calibration=64), seed=0, channels=1, size=8)
    model = mipp.load(dense)
    pruned = mipp.prune(model, list(data.calibration.batches(256)), images=64, **options)
    expected = mipp.Checkpoint(pruned.model, SPEC, pruned.selection, (1, 8, 8))
    mipp.save_checkpoint(tmp_path / "expected.safetensors", expected)
    assert said == (tmp_path / "expected.safetensors").read_bytes()
    assert pruned.report.macs <= 0.5 * pruned.report.macs_dense


@pytest.mark.parametrize(("network", "data"), [("net", "loader"), ("Net", "batches")])
def test_network_and_loader_of_yours_are_found_by_their_addresses(network, data, own, tmp_path):
    out = tmp_path / "small.safetensors"
    pruned_to(out, "--model", f"{own}:{network}", "--data", f"{own}:{data}")
    module = sys.modules[own]
    expected = mipp.prune(module.Net(), module.loader, images=64).model
    found = mipp.load(out, build=module.Net)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tensor, found.state_dict()[name])


def test_pruned_network_is_pruned_further(own, tmp_path):
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    data = ("--data", f"{own}:loader", "--model", f"{own}:Net")
    pruned_to(first, *data, "--budget", "macs:0.7")
    pruned_to(second, first, *data, "--budget", "macs:0.6")
    build = sys.modules[own].Net
    once, twice = (mipp.load_checkpoint(path, build) for path in (first, second))
    for group, kept in twice.selection.kept.items():
        assert set(kept) <= set(once.selection.kept[group])
    assert sum(p.numel() for p in twice.model.parameters()) < sum(
        p.numel() for p in once.model.parameters()
    )


def test_section_data_of_a_file_says_how_images_are_prepared(dense, tmp_path):
    (tmp_path / "few.yaml").write_text("data: {name: digits, mean: [0.5]}\nseed: 3\n")
    said = pruned_to(tmp_path / "a", dense, "--config", tmp_path / "few.yaml")
    again = pruned_to(tmp_path / "b", dense, "--data=digits", "--set", "data.mean=[0.5]")
    assert said == again
    assert said != pruned_to(tmp_path / "c", dense, "--data=digits")


def test_budget_of_accuracy_is_judged_by_the_validation_images(dense, tmp_path, capsys):
    """A fifth of the 1,437 training images of the digits."""
    arguments = ["prune", str(dense), "--data=digits", "--out", str(tmp_path / "s"), *FEW]
    assert main([*arguments, "--budget=drop:0.1", "--set=data.validation=0.2"]) == 2
    said = capsys.readouterr().err
    assert "287 validation inputs cannot tell" in said
    assert "give more by data.validation" in said
    assert "--drop-confidence=0" in said


def test_report_is_printed_or_given_as_json(dense, tmp_path, capsys):
    arguments = ["prune", str(dense), "--data=digits", "--out", str(tmp_path / "s"), *FEW]
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("params ")
    assert main([*arguments, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    weights = mipp.load(tmp_path / "s").parameters()
    assert said["params"] == sum(weight.numel() for weight in weights)


REFUSED = {
    "no data": (["{dense}", "--out=x"], "--data is missing"),
    "no file": (["{dense}", "--data=digits"], "--out is missing"),
    "onto itself": (["{dense}", "--data=digits", "--out={dense}"], "cannot be written"),
    "no folder": (["{dense}", "--data=digits", "--out=none/x"], "a folder that is not"),
    "workdir": (["{dense}", "--data=digits", "--out=x", "--workdir=w"], "--workdir has no effect"),
    "set": (["{dense}", "--data=digits", "--out=x", "--set=seed=3"], "--set seed=3 has no effect"),
    "stage": (["--budget=macs:0.3"], "--budget has no effect on stage prune"),
    "nothing there": (["none.safetensors", "--data=digits", "--out=x"], "cannot be read"),
    "data": (["{dense}", "--data=digit", "--out=x"], "did you mean digits"),
    "budget": (["{dense}", "--data=digits", "--out=x", "--budget=0.5"], "--budget='0.5' has no"),
    "images": (["{dense}", "--data=digits", "--out=x", "--images=9999"], "Set --images=1293"),
    "device": (["{dense}", "--data=digits", "--out=x", "--device=gpu"], "(--device) is unknown"),
    "own data": (["{dense}", "--data={own}:number", "--out=x"], "expected batches of inputs"),
    "own model": (["--model={own}:number", "--data=digits", "--out=x"], "expected a network"),
    "needs more": (["--model={own}:batches", "--data=digits", "--out=x"], "one that needs 'seed'"),
    "not made": (["--model={own}:nothing", "--data=digits", "--out=x"], "makes none"),
    "no batches": (["{dense}", "--data={own}:nothing", "--out=x"], "holds none"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_pruned_is_refused_with_its_mend(case, dense, own, capsys, tmp_path):
    arguments, says = REFUSED[case]
    given = [one.format(dense=dense, own=own) for one in arguments]
    before = set(tmp_path.iterdir())
    assert main(["prune", *given, "--quiet"]) == 2
    assert says in capsys.readouterr().err
    assert {path for path in tmp_path.iterdir() if path.name != "__pycache__"} <= before


def test_every_option_of_a_network_has_its_usual_value_in_the_table():
    prune.configure(parser := ArgumentParser())
    usual = vars(parser.parse_args([]))
    known = {**one_network.DEFAULTS, **one_network.STAGE_DEFAULTS}
    both = {"checkpoint", "model", "json", "config", "set"}  # tell the ways apart, or are of both
    assert {k: v for k, v in usual.items() if k not in both} == known
