"""Imports point down the ladder, and each third-party library stays behind its wall."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for top in ("mipp", "tasks", "flows") for path in (ROOT / top).rglob("*.py"))

# From the bottom up. A module may import its own rung and those below; a new one needs a place.
LADDER = (
    {
        "mipp.allocator",
        "mipp.errors",
        "mipp.yaml_values",
        "mipp.budget",
        "mipp.whole_files",
        "mipp.names",
        "mipp.no_effect",
        "mipp.peak_memory",
        "mipp.sources",
        "mipp.config",
    },
    {
        "mipp.layers",
        "mipp.device",
        "mipp.vision",
        "mipp.progress",
        "mipp.evaluation",
        "mipp.hooked_mode",
        "mipp.inputs",
        "mipp.storage",
    },
    {"mipp.data", "mipp.models"},
    {"mipp.graph", "mipp.activations"},
    {"mipp.information"},
    {"mipp.selection"},
    {"mipp.criteria"},
    {
        "mipp.training",
        "mipp.metrics",
        "mipp.checkpoint",
        "mipp.export",
        "mipp.latency",
        "mipp.refit",
        "mipp.cut",
    },
    {"mipp.report", "mipp.workdir"},
    {
        "mipp.stages",
        "mipp.experiments",
        "mipp.cli",
        "mipp.calibration",
        "mipp.in_memory",
        "mipp.oneshot",
        "mipp.testing",
        "mipp",
        "mipp.__init__",
        "mipp.__main__",
    },
    {"tasks"},
    {"flows"},
)
WALLS = {
    "torch_pruning": (),
    "zarr": ("mipp/activations/store.py",),
    "mlflow": ("tasks/tracking/",),
    "matplotlib": ("mipp/report/",),
    "yaml": ("mipp/yaml_values.py",),
    "pydantic": ("mipp/config.py",),
    "prefect": ("tasks/", "flows/"),
    "torchvision": ("mipp/vision.py",),
    "timm": ("mipp/models/timm_models.py",),
    "dvc": (),
    "onnx": (),
    "onnxruntime": ("mipp/export.py",),
    "onnxscript": (),
    "ray": (),
    "prefect_ray": ("flows/runners.py",),
    "fsspec": ("mipp/storage.py",),
}


def imported(source):
    """Dotted names that a source imports; `from a import b` gives a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that the ladder can be read"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rung(name):
    """Height on the ladder of a module, or of a name inside one; None for other people's."""
    top, *rest = name.split(".")
    if top not in ("mipp", "tasks", "flows"):
        return None
    module = f"mipp.{rest[0]}" if top == "mipp" and rest else top
    heights = [height for height, modules in enumerate(LADDER) if module in modules]
    if heights:
        return heights[0]
    path = ROOT.joinpath(*module.split("."))
    exists = path.is_dir() or path.with_suffix(".py").is_file()
    assert not exists, f"{module} has no rung yet; give it one in tests/test_ladder.py"
    return rung(top)  # a name that the package itself exports


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def upward(module, source):
    """Imports of a module's source that point up."""
    found = [name for name in imported(source) if rung(name) is not None]
    return [name for name in found if rung(name) > rung(module)]


def through_walls(path, source):
    """Imports of third-party libraries that belong elsewhere."""
    tops = {name.partition(".")[0] for name in imported(source)} & WALLS.keys()
    return sorted(top for top in tops if not path.startswith(WALLS[top] or ("nowhere",)))


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_imports_point_down(path):
    assert upward(module_of(path), path.read_text()) == []


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_libraries_stay_behind_their_walls(path):
    assert through_walls(str(path.relative_to(ROOT)), path.read_text()) == []


@pytest.mark.parametrize("path", sorted((ROOT / "mipp/information").rglob("*.py")), ids=module_of)
def test_information_knows_no_model_store_or_disk(path):
    known = ("mipp.information", "mipp.errors", "mipp.config", "mipp.progress")
    own = [name for name in imported(path.read_text()) if name.startswith("mipp")]
    assert [name for name in own if not name.startswith(known)] == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("mipp.graph", "from mipp.cut import apply_selection"),
        ("mipp.information.moments", "from mipp import criteria"),
        ("mipp.models.table", "def f():\n    import mipp.training.loop"),
        ("mipp.checkpoint", "from mipp import prune"),
        ("mipp.stages.train", "from tasks import steps"),
        ("tasks.steps", "import flows.pipeline"),
    ],
)
def test_ladder_sees_an_import_that_points_up(module, source):
    assert len(upward(module, source)) == 1


@pytest.mark.parametrize(
    ("path", "source", "library"),
    [
        ("mipp/refit/refit.py", "import torch_pruning as tp", "torch_pruning"),
        ("mipp/stages/extract.py", "from zarr.storage import LocalStore", "zarr"),
        ("mipp/models/vgg.py", "def f():\n    from torchvision import models", "torchvision"),
        ("mipp/models/table.py", "def f():\n    import timm", "timm"),
        ("mipp/cli.py", "import prefect.flows", "prefect"),
        ("tasks/steps.py", "import mlflow", "mlflow"),
        ("mipp/stages/report.py", "import matplotlib.pyplot", "matplotlib"),
    ],
)
def test_walls_see_an_import_that_belongs_elsewhere(path, source, library):
    assert through_walls(path, source) == [library]


def test_every_source_is_looked_at():
    assert {path.relative_to(ROOT).parts[0] for path in SOURCES} == {"mipp", "tasks", "flows"}
    assert ROOT / "mipp/graph/build.py" in SOURCES
