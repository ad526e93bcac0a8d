"""Every setting changes something: two values, and what then differs.

Each row runs the stages of a small network up to the one that shows it, with one value and with
the other; a field of `Params` without a row fails.
"""

import hashlib
import multiprocessing
import shutil
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from mipp.config import Params, Section, load_params
from mipp.disk.storage import Workdir
from mipp.errors import InputError
from mipp.stages.launch import job_of
from mipp.stages.pipeline import STAGES, pending_shards
from mipp.stages.preflight import preflight
from mipp.stages.splits import load_splits
from mipp.stages.stage import run_stage

pytestmark = [
    pytest.mark.usefixtures("few_figures"),
    pytest.mark.xdist_group("neighbours"),  # what is up to date stays
]
NAMES = list(STAGES)
BASE = (
    "model.name=test_neighbours:Tiny",
    "data.size=8",
    "data.limit=256",
    "data.calibration=128",
    "train.epochs=1",
    "finetune.epochs=1",
    "extract.rows=512",
    "choose.budget=ratio:0.5",
    "evaluate.latency_repeats=1",
    "evaluate.latency_batch=4",
    "evaluate.export=[]",
    "compute.device=cpu",
    "compute.runner=serial",
    "tracking.uri=null",
)


class Tiny(nn.Module):
    """Convolutions with a batch norm, and linear layers: 19 units that can go."""

    def __init__(self, classes, channels):
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(channels, 6, 3), nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 5, 3, stride=2)
        self.fc1, self.fc2 = nn.Linear(20, 8), nn.Linear(8, classes)

    def forward(self, x):
        x = self.conv2(self.norm(self.conv1(x)).relu()).relu()
        return self.fc2(self.fc1(x.flatten(1)).relu())


class Wider(Tiny):
    """Another network."""

    def __init__(self, classes, channels):
        super().__init__(classes, channels)
        self.fc1, self.fc2 = nn.Linear(20, 9), nn.Linear(9, classes)


class Attending(nn.Module):
    """Rows of an image as tokens of one attention, whose two heads have 16 dimensions."""

    def __init__(self, classes, channels):
        super().__init__()
        self.embed = nn.Conv2d(channels, 32, (1, 8))
        self.attention = nn.MultiheadAttention(32, 2, batch_first=True)
        self.head = nn.Linear(32, classes)

    def forward(self, x):
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        return self.head(self.attention(tokens, tokens, tokens)[0].mean(1))


# What is looked at


def run_until(stage, params, work):
    """The stage's folder, once it and all before it are made; what is up to date stays."""
    for name in NAMES[: NAMES.index(stage) + 1]:
        run_stage(STAGES[name], Workdir(work), params)
    return work / stage


def content(folder):
    """Hash of what a stage wrote, but for what varies anyway and what a store says of itself."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.name not in ("manifest.json", "timing.json", "zarr.json"):
            digest.update(str(file.relative_to(folder)).encode() + file.read_bytes())
    return digest.hexdigest()


def made(stage):
    return lambda params, work: content(run_until(stage, params, work))


def kept(params, work):
    """The selection alone, not what it says of its parameters."""
    run_until("choose", params, work)
    nodes = pq.read_table(work / "choose/nodes.parquet").to_pylist()
    return sorted((n["group"], n["channel"]) for n in nodes if n["kept"])


def nodes(params, work):
    return pq.read_table(run_until("choose", params, work) / "nodes.parquet").to_pylist()


def metrics(params, work):
    return (run_until("evaluate", params, work) / "metrics.json").read_text()


def images_at_once(stage):
    """Sizes of the batches that a stage runs networks on."""

    def sizes(params, work):
        run_until(NAMES[NAMES.index(stage) - 1], params, work)
        seen = []

        def note(module, inputs):
            if isinstance(module, Tiny):
                seen.append(len(inputs[0]))

        shutil.rmtree(work / stage, ignore_errors=True)  # it is to run, whatever is there
        handle = nn.modules.module.register_module_forward_pre_hook(note)
        try:
            run_until(stage, params, work)
        finally:
            handle.remove()
        return sorted(seen)

    return sizes


def shards(params, work):
    run_until("train", params, work)
    shutil.rmtree(work / "extract", ignore_errors=True)  # it is to run, whatever is there
    return pending_shards(Workdir(work), params)


def processes(params, work):
    """How many read the training images of a pass."""
    before = set(multiprocessing.active_children())
    batches = load_splits(params).train.batches(64)
    next(batches)
    return len(set(multiprocessing.active_children()) - before)


def calls_of_the_compiler(params, work):
    """How often networks are compiled; by a compiler that leaves them as they are."""
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", lambda run: calls.append(run) or run)
        for stage in ("train", "finetune"):
            shutil.rmtree(work / stage, ignore_errors=True)
            run_until(stage, params, work)
    return len(calls)


def jobs_of_ranks(params, work):
    """What the processes of a training are told, if there are any."""
    jobs = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "mipp.stages.stage.launch", lambda *job: jobs.append(job_of(*job)["params"]["compute"])
        )
        shutil.rmtree(work / "train", ignore_errors=True)
        run_until("train", params, work)
    if jobs:
        shutil.rmtree(work / "train")  # nobody has filled it
    return jobs


def page(params, work):
    return (run_until("report", params, work) / "report.md").read_text()


def refusal(params, work):
    """What `preflight` says, "" if all is well."""
    try:
        preflight(Workdir(work), params)
    except InputError as error:
        return str(error)
    return ""


def runner(params, work):
    """What the flow's tasks are handed to, on a cluster that only writes down what it is told."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.runners import resources, task_runner

    said = []

    class Cluster:
        def __init__(self, **options):
            said.append(options["address"])

    def hold(**options):
        said.append(options)
        return torch.no_grad()  # a block

    modules = {"prefect_ray": ModuleType("prefect_ray")}
    modules["prefect_ray.context"] = ModuleType("prefect_ray.context")
    for name, module in modules.items():
        module.__spec__ = ModuleSpec(name, None)
    modules["prefect_ray"].RayTaskRunner = Cluster
    modules["prefect_ray.context"].remote_options = hold
    with pytest.MonkeyPatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        made = task_runner(params.compute)
        server = temporary_settings({PREFECT_API_URL: "http://nobody:4200/api"})  # starts none
        with server, resources(params.compute):
            return type(made).__name__, getattr(made, "_max_workers", None), said


def tracked(params, work):
    """Names of the experiments in the store, if there is one."""
    from mlflow import MlflowClient

    from tasks.tracking import tracked_run

    with tracked_run(params, str(work)):
        pass
    uri = params.tracking.uri
    return uri and sorted(e.name for e in MlflowClient(uri).search_experiments())


class Row(NamedTuple):
    """A field, two values as YAML, what differs, and what makes the field matter."""

    field: str
    first: object
    second: object
    outcome: object
    context: tuple[str, ...] = ()


TESTED = ("choose.budget=confidence:80",)
PERCEPTRONS = ("choose.estimator=reconstruction", "choose.order=mi")
QUICK = (*PERCEPTRONS, "estimate.epochs=2", "estimate.repeats=2", "estimate.rows=64")
DISTILLS = ("prune.repair=distill", "prune.ridge=100")
L1 = ("choose.method=l1",)
TAYLOR = ("choose.method=taylor",)
STEPS = ("train.schedule=step", "train.epochs=2")
TAUGHT = ("finetune.epochs=1", "finetune.distill=0.5")
ROWS = [
    Row("seed", 0, 1, made("train")),
    Row("data.name", "digits", "digits-deformed", made("train")),
    Row("data.root", "/nowhere", "/elsewhere", refusal, ("data.name=parquet",)),
    Row("data.limit", 256, 200, made("train")),
    Row("data.calibration", 128, 96, made("extract")),
    Row("data.calibration_sample", "random", "balanced", made("extract")),
    Row("data.validation", 0.1, 0.2, made("train")),
    Row("data.size", 8, 9, made("train"), ("model.name=lenet-300-100",)),
    Row("data.prepare", "set", "weights", refusal),  # of a network without weights
    Row("data.resize", 8, 12, made("extract")),
    Row("data.interpolation", "bilinear", "nearest", made("extract"), ("data.resize=12",)),
    Row("data.augment", "none", "flip", made("train")),
    Row("data.crop_padding", 1, 2, made("train"), ("data.augment=crop",)),
    Row("data.mean", "[0.3]", "[0.5]", made("train")),
    Row("data.std", "[0.3]", "[0.5]", made("train")),
    Row("data.download", "false", "true", refusal, ("data.name=mnist", "data.root=/dev/null/no")),
    Row("data.workers", 0, 1, processes),
    Row("model.name", "test_neighbours:Tiny", "test_neighbours:Wider", made("train")),
    Row("model.weights", "null", "weights.pt", made("train")),
    Row("model.narrow_heads", 1, 0.05, made("train"), ("model.name=test_neighbours:Attending",)),
    Row("train.epochs", 1, 2, made("train")),
    Row("train.batch_size", 64, 32, made("train")),
    Row("train.optimizer", "sgd", "adamw", made("train")),
    Row("train.lr", 0.05, 0.1, made("train")),
    Row("train.momentum", 0.9, 0.5, made("train")),
    Row("train.weight_decay", 0, 0.1, made("train")),
    Row("train.schedule", "onecycle", "constant", made("train")),
    Row("train.milestones", "[0.25]", "[0.75]", made("train"), STEPS),
    Row("train.warmup", 0, 0.5, made("train"), ("train.schedule=cosine",)),
    Row("train.accumulate", 1, 2, made("train")),
    Row("train.clip", "null", 0.01, made("train")),
    Row("train.channels_last", "false", "true", made("train")),
    Row("train.label_smoothing", 0, 0.1, made("train")),
    Row("train.ema", "null", 0.5, made("train")),
    Row("train.compile", "false", "true", calls_of_the_compiler),
    Row("train.patience", 0, 1, made("train"), ("train.epochs=6", "train.lr=2")),
    Row("train.precision", "float32", "bfloat16", made("train")),
    Row("train.slimming", 0, 0.01, made("train")),
    Row("train.when", "before-pruning", "after-pruning", made("train"), ("finetune.epochs=10",)),
    Row("extract.rows", 128, 256, made("extract")),
    Row("extract.batch_size", 64, 32, images_at_once("extract")),
    Row("extract.inputs", "none", "pixels", made("extract")),
    Row("extract.shards", 1, 2, shards, ("extract.batch_size=32",)),
    Row("estimate.resolution", 0.3, 3, nodes),
    Row("estimate.ridge", 1e-3, 1, nodes),
    Row("estimate.repeats", 5, 3, nodes, TESTED),
    Row("estimate.rows", 64, 32, made("estimate"), (*PERCEPTRONS, "estimate.epochs=2")),
    Row("estimate.held_out", 64, 32, made("estimate"), QUICK),
    Row("estimate.width", 8, 4, made("estimate"), QUICK),
    Row("estimate.depth", 1, 2, made("estimate"), QUICK),
    Row("estimate.epochs", 1, 2, made("estimate"), (*PERCEPTRONS, "estimate.repeats=2")),
    Row("estimate.patience", 1, 9, made("estimate"),
        (*QUICK, "estimate.epochs=40", "estimate.lr=0.03")),
    Row("estimate.batch_size", 64, 16, made("estimate"), QUICK),
    Row("estimate.lr", 3e-3, 1e-2, made("estimate"), QUICK),
    Row("estimate.retrain_epochs", 1, 2, nodes, QUICK),
    Row("estimate.retrain_lr", 1e-3, 1e-2, nodes, (*QUICK, "estimate.retrain_epochs=1")),
    Row("choose.method", "mipp", "l1", kept),
    Row("choose.estimator", "gaussian", "reconstruction", made("estimate")),
    Row("choose.order", "mi", "best-first", kept),
    Row("choose.budget", "ratio:0.5", "ratio:0.6", kept),
    Row("choose.compare", "[]", "['macs:0.7']", made("choose")),
    Row("choose.drop_confidence", 0, 50, made("choose"), ("choose.budget=drop:20", *L1)),
    Row("choose.price", "unit", "macs", kept),
    Row("choose.scope", "global", "layer", kept, L1),
    Row("choose.batch_size", 64, 32, images_at_once("choose"), TAYLOR),
    Row("choose.worth", "share", "nats", kept),
    Row("choose.position_weight", 0, 1, kept, ("choose.worth=nats",)),
    Row("choose.param_weight", 0, 1, kept),
    Row("choose.min_channels", 1, 2, kept, ("choose.budget=ratio:0.6",)),
    Row("choose.round_to", 1, 2, kept),
    Row("choose.limits", "{}", "{'fc*': 0.3}", kept),
    Row("choose.ignore", "[]", "[conv1]", kept),
    Row("choose.keep_outputs", "[]", "[conv2]", kept),
    Row("choose.keep_inputs", "[]", "[conv2]", kept),
    Row("choose.margin", 0, 0.5, kept, TESTED),
    Row("choose.sure", "keep", "drop", kept, (*TESTED, "choose.margin=0.1")),
    Row("prune.refit", "true", "false", made("prune")),
    Row("prune.recalibrate", "true", "false", made("prune")),
    Row("prune.repair", "refit", "distill", made("prune")),
    Row("prune.steps", 30, 20, made("prune"), DISTILLS),
    Row("prune.views", "none", "shift", made("prune"), (*DISTILLS, "prune.steps=30")),
    Row("prune.ridge", 0.01, 1, made("prune")),
    Row("prune.images", 128, 64, made("prune")),
    Row("prune.batch_size", 64, 32, images_at_once("prune")),
    Row("prune.rows", 512, 256, made("prune")),
    *(
        Row(f"finetune.{r.field[6:]}", r.first, r.second, made("finetune"),
            tuple(c.replace("train.", "finetune.") for c in r.context))
        for r in [Row("train.epochs", 0, 1, None), Row("train.batch_size", 64, 32, None),
                  Row("train.optimizer", "sgd", "adamw", None), Row("train.lr", 0.02, 0.1, None),
                  Row("train.momentum", 0.9, 0.5, None), Row("train.weight_decay", 0, 0.1, None),
                  Row("train.schedule", "onecycle", "constant", None),
                  Row("train.milestones", "[0.25]", "[0.75]", None, STEPS),
                  Row("train.warmup", 0, 0.5, None, ("train.schedule=cosine",)),
                  Row("train.accumulate", 1, 2, None), Row("train.clip", "null", 0.01, None),
                  Row("train.channels_last", "false", "true", None),
                  Row("train.label_smoothing", 0, 0.1, None),
                  Row("train.ema", "null", 0.5, None),
                  Row("train.patience", 0, 1, None, ("train.epochs=6", "train.lr=2")),
                  Row("train.precision", "float32", "bfloat16", None)]
    ),
    Row("finetune.compile", "false", "true", calls_of_the_compiler),
    Row("finetune.rounds", 1, 2, made("finetune"), ("finetune.epochs=2",)),
    Row("finetune.round_budgets", "cubic", "geometric", kept,
        ("finetune.rounds=2", "finetune.epochs=2")),
    Row("finetune.start", "refit", "pruned", made("finetune")),
    Row("finetune.distill", 0, 0.5, made("finetune"), TAUGHT[:1]),
    Row("finetune.temperature", 4, 1, made("finetune"), TAUGHT),
    Row("finetune.features", 0, 1, made("finetune"), TAUGHT[:1]),
    Row("evaluate.batch_size", 120, 90, images_at_once("evaluate")),
    Row("evaluate.latency_batch", 4, 8, images_at_once("evaluate")),
    Row("evaluate.latency_repeats", 1, 2, images_at_once("evaluate")),
    Row("evaluate.export", "[]", "[torch]", metrics),
    Row("report.title", "One", "Another", page),
    Row("compute.device", "cpu", "cuda:99", refusal),
    Row("compute.devices", 1, 2, jobs_of_ranks),
    Row("compute.strategy", "ddp", "fsdp", jobs_of_ranks, ("compute.devices=2",)),
    Row("compute.runner", "serial", "threads", runner),
    Row("compute.workers", 1, 3, runner, ("compute.runner=threads",)),
    Row("compute.address", "null", "10.0.0.1:6379", runner, ("compute.runner=ray",)),
    Row("compute.cpus_per_task", 1, 2, runner, ("compute.runner=ray",)),
    Row("compute.gpus_per_task", 0, 1, runner, ("compute.runner=ray", "compute.device=auto")),
    Row("tracking.uri", "null", "sqlite:///a.db", tracked),
    Row("tracking.experiment", "mine", "yours", tracked, ("tracking.uri=sqlite:///a.db",)),
]  # fmt: skip


def fields_of(section, prefix=""):
    for name, field in section.model_fields.items():
        part = field.annotation
        if isinstance(part, type) and issubclass(part, Section):
            yield from fields_of(part, f"{name}.")
        else:
            yield prefix + name


def test_every_field_of_every_section_has_one_row():
    assert sorted(row.field for row in ROWS) == sorted(fields_of(Params))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """One work directory: a stage runs again where what it depends on has changed."""
    folder = tmp_path_factory.mktemp("neighbours")
    torch.manual_seed(3)
    torch.save(Tiny(classes=10, channels=1).state_dict(), folder / "weights.pt")
    return folder


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.field)
def test_setting_tells_from_its_neighbour(row, work, monkeypatch):
    monkeypatch.chdir(work)
    context = [text for text in BASE if text.partition("=")[0] != row.field]
    found = [
        row.outcome(load_params(overrides=[*context, *row.context, f"{row.field}={value}"]), work)
        for value in (row.first, row.second)
    ]
    assert found[0] != found[1]
