"""Imports point down the ladder, and each third-party library stays behind its wall."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for top in ("mipp", "tasks", "flows") for path in (ROOT / top).rglob("*.py"))

# From the bottom up. A module may import its own rung and those below; a new one needs a place.
LADDER = (
    {
        "mipp.augment_names",
        "mipp.errors",
        "mipp.budget",
        "mipp.names",
        "mipp.needed_stages",
        "mipp.origin",
        "mipp.page",
        "mipp.bounds",
        "mipp.direct_settings",
        "mipp.settings",
        "mipp.sources",
        "mipp.config",
        "mipp.copies",
        "mipp.disk",
        "mipp.process",
        "mipp.surroundings",
    },
    {
        "mipp.layers",
        "mipp.device",
        "mipp.vision",
        "mipp.progress",
        "mipp.axes",
        "mipp.evaluation",
        "mipp.finite",
        "mipp.hooked_mode",
        "mipp.inputs",
        "mipp.multiplying",
    },
    {"mipp.data", "mipp.models"},
    {"mipp.graph", "mipp.activations"},
    {"mipp.information"},
    {"mipp.selection", "mipp.narrowing"},
    {"mipp.criteria"},
    {
        "mipp.features",
        "mipp.training",
        "mipp.metrics",
        "mipp.checkpoint",
        "mipp.export",
        "mipp.latency",
        "mipp.refit",
        "mipp.distill",
        "mipp.cut",
    },
    {"mipp.pruning"},
    {"mipp.report"},
    {"mipp.comparing"},
    {
        "mipp.stages",
        "mipp.experiments",
        "mipp.cli",
        "mipp.commands",
        "mipp.doctor",
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
    "yaml": ("mipp/config/yaml_values.py",),
    "pydantic": ("mipp/config/",),
    "prefect": ("tasks/", "flows/"),
    "torchvision": ("mipp/vision.py",),
    "timm": ("mipp/models/timm_models.py", "mipp/training/optimizers.py"),
    "datasets": ("mipp/data/huggingface.py",),
    "dvc": (),
    "onnx": (),
    "onnxruntime": ("mipp/export/formats.py",),
    "onnxscript": (),
    "ray": ("mipp/stages/launch_on_ray.py",),
    "prefect_ray": ("flows/runners.py",),
    "fsspec": ("mipp/disk/storage.py",),
    "shtab": ("mipp/commands/completion.py",),
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


def sources_of(names, sources):
    """Modules among some names that a source imports: a package, or a module in it."""
    return {
        module
        for name in names
        for module in [name if name in sources else name.rpartition(".")[0]]
        if module in sources
    }


def circles(sources):
    """Modules that import themselves by way of others; a mapping of name -> source."""
    reached = {m: sources_of(imported(text), sources) - {m} for m, text in sources.items()}
    while True:
        further = {m: names.union(*(reached[n] for n in names)) for m, names in reached.items()}
        if further == reached:
            return sorted(module for module, names in reached.items() if module in names)
        reached = further


NOT_LAYERS = {"Module", "Parameter", "Sequential", "ModuleList", "ModuleDict"}


def layer_types(node):
    """Layers of torch that an expression names, such as nn.Conv2d, and PaddedShortcut."""
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and ast.unparse(part).startswith(("nn.", "torch.nn.")):
            if part.attr[0].isupper() or part.attr[0] == "_":
                yield from {part.attr} - NOT_LAYERS
        elif isinstance(part, ast.Name) and part.id == "PaddedShortcut":
            yield part.id


def asks_for_layers(source):
    """Expressions that ask for a layer by its type: `isinstance`, comparisons, tuples of types."""
    found = []
    for node in ast.walk(ast.parse(source)):
        asked = []
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            asked = node.args[1:]
        elif isinstance(node, ast.Compare) and "type(" in ast.unparse(node):
            asked = [node.left, *node.comparators]
        elif isinstance(node, (ast.Tuple, ast.Set, ast.List)):
            asked = [part for part in node.elts if isinstance(part, (ast.Attribute, ast.Name))]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            "torch.nn.modules"
        ):
            found.append(ast.unparse(node))
        if any(True for part in asked for _ in layer_types(part)):
            found.append(ast.unparse(node))
    return found


def faults(paths, look):
    """What is wrong in some sources, by module, in one test: one for each takes ten times as long.

    Parameters
    ----------
    look : (path, text) -> what is wrong in a source.
    """
    return {module_of(path): wrong for path in paths if (wrong := look(path, path.read_text()))}


def test_imports_point_down():
    assert faults(SOURCES, lambda path, text: upward(module_of(path), text)) == {}


def test_libraries_stay_behind_their_walls():
    assert faults(SOURCES, lambda p, text: through_walls(str(p.relative_to(ROOT)), text)) == {}


def test_information_knows_no_model_store_or_disk():
    known = (
        *("mipp.information", "mipp.errors", "mipp.settings", "mipp.direct_settings"),
        *("mipp.names", "mipp.progress"),
    )

    def strange(path, text):
        own = [name for name in imported(text) if name.startswith("mipp")]
        return [name for name in own if not name.startswith(known)]

    sources = [path for path in SOURCES if module_of(path).startswith("mipp.information.")]
    assert len(sources) > 20
    assert faults(sources, strange) == {}


def test_imports_form_no_circle():
    texts = {module_of(path).removesuffix(".__init__"): path.read_text() for path in SOURCES}
    assert circles(texts) == []


def test_circle_is_seen():
    sources = {"a": "import b", "b": "if TYPE_CHECKING:\n    from c import d", "c": "import a"}
    assert circles({**sources, "e": "import a"}) == ["a", "b", "c"]


def outside_of_layers():
    return [path for path in SOURCES if not module_of(path).startswith("mipp.layers.")]


def test_layers_alone_know_types_of_layers():
    assert faults(outside_of_layers(), lambda _, text: asks_for_layers(text)) == {}


@pytest.mark.parametrize(
    "source",
    [
        "isinstance(module, nn.Conv2d)",
        "isinstance(module, (nn.Module, torch.nn.Linear))",
        "found = type(module) is nn.MultiheadAttention",
        "KNOWN = (nn.BatchNorm1d, nn.BatchNorm2d)",
        "isinstance(module, nn.modules.batchnorm._BatchNorm)",
        "from torch.nn.modules.batchnorm import _BatchNorm",
        "isinstance(module, PaddedShortcut)",
    ],
)
def test_question_for_the_type_of_a_layer_is_seen(source):
    assert len(asks_for_layers(source)) >= 1


def test_modules_that_are_made_or_held_are_no_question():
    made = "layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), isinstance(x, nn.Module)"
    assert asks_for_layers(made) == []


def test_graph_knows_no_network():
    sources = [path for path in SOURCES if module_of(path).startswith("mipp.graph.")]
    assert len(sources) > 20
    assert faults(sources, lambda _, text: [n for n in imported(text) if "mipp.models" in n]) == {}


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
