"""Every benchmark is a command with the same options, and the smallest run of it works."""

from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.catalogue import BENCHMARKS
from benchmarks.shared.kept import RESULTS

ROOT = Path(__file__).parents[2]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "benchmarks").rglob("*.py"))
    if path.name != "__main__.py"
]

ONE_EPOCH = ("--data", "digits", "--epochs", "1", "--seeds", "0")
SMALLEST = {
    "accuracy.untrained": (*ONE_EPOCH, "--finetune", "1", "--ratios", "0.5", "--images", "64"),
    "cost.search": ("--images", "16", "--rows", "128", "--repetitions", "1"),
    "cost.plans": ("--images", "64", "--budgets", "macs:0.5", "--repetitions", "1"),
    "cost.scaling": ("--widths", "8", "16", "--rows", "1024", "2048", "--repetitions", "1"),
    "cost.memory": ("--images", "8", "16", "--rows", "64"),
    "cost.allocator": ("--batch-size", "4", "--steps", "1", "--repetitions", "1"),
    "ablations.confidence": (*ONE_EPOCH, "--rows", "128", "--x", "90"),
    "ablations.estimators": (*ONE_EPOCH, "--finetune", "1", "--images", "128"),
    "validation.zoo": ("--models", "written/CSP"),
    "validation.latency": ("--models", "mobilenet_v2", "--batches", "1", "--size", "32"),
}


@pytest.mark.parametrize("module", MODULES)
def test_every_module_can_be_imported(module):
    assert import_module(module).__doc__


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda benchmark: benchmark.name)
def test_help_names_the_command_and_the_flag_for_writing(benchmark, capsys):
    with pytest.raises(SystemExit, match="0"):
        import_module(f"benchmarks.{benchmark.module}").arguments(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith(f"usage: python -m benchmarks.{benchmark.name} ")
    assert "--write keep it in benchmarks/results" in shown
    assert (f"and write {benchmark.page} of all" in shown) == (benchmark.page is not None)


def test_every_module_with_a_command_is_listed():
    commands = {m.removeprefix("benchmarks.") for m in MODULES if hasattr(import_module(m), "main")}
    assert commands == {benchmark.module for benchmark in BENCHMARKS}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_the_smallest_run_prints_its_command_and_keeps_nothing(name, tmp_path, capsys):
    module = next(benchmark.module for benchmark in BENCHMARKS if benchmark.name == name)
    apart = ("--workdir", str(tmp_path)) if "digits" in SMALLEST[name] else ()
    before = {path: path.read_bytes() for path in (ROOT / RESULTS).iterdir()}
    import_module(f"benchmarks.{module}").main([*SMALLEST[name], *apart, "--threads", "1"])
    assert f"python -m benchmarks.{name} {' '.join(SMALLEST[name])}" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in (ROOT / RESULTS).iterdir()} == before
