"""Distillation of every network of the tests' kinds."""

import importlib.util
from pathlib import Path

import pytest
import torch
from kinds import Kind, built
from oracles import in_one

import mipp

HERE = Path(__file__).parent


def kinds():
    """Every kind that a module of tests has in a table, by its file and name."""
    for file in sorted([*HERE.glob("layers/test_*.py"), *HERE.glob("graph/test_*.py")]):
        if "Kind(" in file.read_text():
            spec = importlib.util.spec_from_file_location(f"kinds_of_{file.stem}", file)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            for table in vars(module).values():
                for name, kind in table.items() if isinstance(table, dict) else ():
                    if isinstance(kind, Kind):
                        yield pytest.param(kind, id=f"{file.stem}: {name}")


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:.torch.jit:DeprecationWarning"
)  # as torchvision loads RoI align
@pytest.mark.parametrize("kind", list(kinds()))
def test_network_of_any_kind_is_trained_and_never_worse_than_refitted_on_inputs_held_out(kind):
    model, images = built(kind, 0)
    pruner = mipp.Pruner(model, [images])
    plan = pruner.plan(f"macs:{0.5 if kind.least < 0.5 else (1 + kind.least) / 2}")
    found = pruner.cut(plan, mipp.Distill(steps=6))
    learned = images[torch.arange(len(images)) % 10 > 0]  # the others judge
    refitted = mipp.Pruner(model, [learned]).cut(plan)
    assert "cannot be trained" not in found.report.distilled.left
    with torch.no_grad():
        networks = (model, refitted.model, found.model)
        wanted, before, after = (in_one(network.eval()(images[::10])) for network in networks)
    assert (after - wanted).square().mean() <= (before - wanted).square().mean() * (1 + 1e-9)
