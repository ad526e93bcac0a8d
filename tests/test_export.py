"""Exported programs run alone, elsewhere, and compute what the network computes."""

import importlib.util
import itertools
import json
import logging
import re
import subprocess
import sys
from collections import OrderedDict
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from oracles import small_resnet
from torch import nn

import mipp
from mipp.checkpoint import load_checkpoint
from mipp.config import load_params
from mipp.disk.storage import Workdir
from mipp.errors import ConfigError, ExportError
from mipp.export import export_network
from mipp.export.formats import KINDS
from mipp.models import ModelSpec, build_model
from mipp.report import render
from mipp.stages import run_all
from mipp.stages.preflight import preflight
from tests.smallest_run import SMALLEST

pytestmark = pytest.mark.xdist_group("export")  # one process makes what all need
LACKING = [n for n in KINDS["onnx"].packages if importlib.util.find_spec(n) is None]
BOTH = ("torch",) if LACKING else ("torch", "onnx")
needs_onnx = pytest.mark.skipif(bool(LACKING), reason=f"no {', '.join(LACKING)} here")
ELSEWHERE = """
import os
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("mipp", "torchvision", "test_export", "tests"):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Refuse())
import torch

for folder in sys.argv[1:]:
    given = torch.load(f"{folder}/inputs.pt")
    program = torch.export.load(f"{folder}/model.pt2").module()
    outputs = {"torch": [program(x) for x in given]}
    if os.path.exists(f"{folder}/model.onnx"):
        import onnxruntime
        session = onnxruntime.InferenceSession(
            f"{folder}/model.onnx", providers=["CPUExecutionProvider"]
        )
        outputs["onnx"] = [
            torch.from_numpy(session.run(None, {"input": x.numpy()})[0]) for x in given
        ]
    torch.save(outputs, f"{folder}/outputs.pt")
"""


class BatchNormed(nn.Module):
    """Statistics that eval mode must take from the buffers, not from the batch."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 4)
        self.drop = nn.Dropout(0.5)
        with torch.no_grad():
            self.norm.running_mean.uniform_(-1, 1)
            self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        return self.head(self.drop(self.norm(self.conv(x)).relu().mean((2, 3))))


class SmallViT(nn.Module):
    """Patches, a class token, one encoder layer of attention."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.place = nn.Parameter(torch.randn(1, 5, 16))
        self.encoder = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)  # (n, 16, h, w) -> (n, hw, 16)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], 1) + self.place
        return self.head(self.encoder(tokens)[:, 0])


class After(nn.Module):
    """A linear layer, and whatever is done to its output."""

    def __init__(self, then):
        super().__init__()
        self.layer, self.then = nn.Linear(8, 4), then

    def forward(self, x):
        return self.then(self.layer(x))


def pruned_lenet5():
    model = build_model(ModelSpec("lenet5", 10, 1, 28), seed=0)
    return mipp.prune(model, torch.randn(128, 1, 28, 28), budget="macs:0.5").model


NETWORKS = {
    "pruned lenet5": (pruned_lenet5, (1, 28, 28)),
    "residual": (lambda: small_resnet().float(), (3, 16, 16)),
    "batch norm": (BatchNormed, (3, 8, 8)),
    "vit": (SmallViT, (3, 8, 8)),
}


def logits(model, inputs):
    with torch.no_grad():
        return [model.eval()(x) for x in inputs]


# Programs that run elsewhere


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Per network what was exported, its own outputs, and those of a process without its code."""
    root, done, expected = tmp_path_factory.mktemp("programs"), {}, {}
    for name, (build, shape) in NETWORKS.items():
        torch.manual_seed(0)
        model, folder = build(), root / name / "new"
        done[name] = mipp.export_network(model, shape, folder, kinds=BOTH)
        inputs = [torch.randn(size, *shape) for size in (1, 2, 7)]
        expected[name] = logits(model, inputs)
        torch.save(inputs, folder / "inputs.pt")
    alone = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *(str(root / name / "new") for name in NETWORKS)],
        capture_output=True, text=True, check=False, cwd=root,
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    found = {name: torch.load(root / name / "new/outputs.pt") for name in NETWORKS}
    return done, expected, found


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", ["torch", pytest.param("onnx", marks=needs_onnx)])
def test_program_computes_what_the_network_computes_without_its_code(name, kind, programs):
    _, expected, found = programs
    torch.testing.assert_close(found[name][kind], expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_entry_says_kind_file_size_and_batch(name, programs):
    entries = programs[0][name]
    assert [(e.kind, e.path.name, e.batch) for e in entries] == [
        (kind, KINDS[kind].file, None) for kind in BOTH
    ]
    assert all(e.bytes == e.path.stat().st_size for e in entries)


def test_network_is_left_as_it_was(tmp_path):
    model = BatchNormed().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export_network(model, (3, 8, 8), tmp_path)
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]


class AnyNumber(nn.Module):
    """Takes as many tensors as it is given."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, *inputs):
        return sum(self.layer(x) * (i + 1) for i, x in enumerate(inputs))


@pytest.mark.parametrize("count", [1, 3])
def test_forward_may_take_any_number_of_tensors(tmp_path, count):
    network, given = AnyNumber(), [torch.randn(2, 8) for _ in range(count)]
    done = export_network(network, tuple(given), tmp_path, kinds=BOTH)
    assert [one.batch for one in done] == [None] * len(BOTH)
    program = torch.export.load(tmp_path / "model.pt2").module()
    inputs = [torch.randn(5, 8) for _ in given]
    torch.testing.assert_close(program(*inputs), network(*inputs))


def test_several_outputs_are_compared_each(tmp_path):
    model = After(lambda y: (y, {"twice": y * 2, "class": y.argmax(1)}))
    export_network(model, (8,), tmp_path, kinds=BOTH)
    x = torch.randn(3, 8)
    first, rest = torch.export.load(tmp_path / "model.pt2").module()(x)
    torch.testing.assert_close(rest["twice"], 2 * first)
    assert torch.equal(rest["class"], first.argmax(1))


@dataclass
class Answer:
    """What only the network's own code can build."""

    logits: torch.Tensor
    odds: torch.Tensor
    attentions: torch.Tensor | None = None


class Answers(OrderedDict):
    """As those of Hugging Face: a dict, and a class of its own."""


class Words(nn.Module):
    """Words with a mask of those that count: integers and booleans in, a class of tensors out."""

    def __init__(self, answer):
        super().__init__()
        self.embed, self.fc = nn.Embedding(9, 6), nn.Linear(6, 8)
        self.head, self.answer = nn.Linear(8, 3), answer

    def forward(self, words, mask):
        weights = mask[..., None].float()
        mean = (self.embed(words) * weights).sum(1) / weights.sum(1).clamp(min=1)
        logits = self.head(torch.relu(self.fc(mean)))
        return self.answer(logits=logits, odds=logits.softmax(1))


def words(count):
    drawn = torch.randint(9, (count, 5), generator=torch.Generator().manual_seed(count))
    return {"words": drawn, "mask": drawn > 2}


SHAPES = {"words": ("int64", 5), "mask": ("bool", 5)}


@pytest.mark.parametrize(  # each of both once: nothing looks at the two together
    ("given", "answer"),
    [
        pytest.param(words(4), Answer, id="names"),
        pytest.param(tuple(words(4).values()), Answers, id="order"),
        pytest.param(SHAPES, dict, id="shapes"),
    ],
)
def test_inputs_and_outputs_may_be_what_pruning_takes(answer, given, tmp_path):
    """By keyword or in order, not only real; from one door to the next."""
    torch.manual_seed(0)
    batches = [words(8) for _ in range(4)]
    model = mipp.prune(Words(answer), batches, budget="macs:0.5", images=32).model
    export_network(model, given, tmp_path, kinds=BOTH)
    others = words(7)
    with torch.no_grad():
        expected = model.eval()(**others)
    logits = expected.logits if answer is Answer else expected["logits"]
    given = {} if isinstance(given, tuple) else others
    found = torch.export.load(tmp_path / "model.pt2").module()(
        *([] if given else others.values()), **given
    )
    assert found.keys() == {"logits", "odds"}
    torch.testing.assert_close(found["logits"], logits)
    if not LACKING:
        import onnxruntime

        session = onnxruntime.InferenceSession(
            tmp_path / "model.onnx", providers=["CPUExecutionProvider"]
        )
        assert [i.shape[0] for i in session.get_inputs()] == ["batch"] * 2
        arrays = {name: x.numpy() for name, x in others.items()}
        assert session.run(None, arrays)[0] == pytest.approx(logits.numpy(), abs=1e-5)


def test_network_of_hugging_face_is_exported_as_it_is(tmp_path):
    from mipp.vision import torchvision  # noqa: F401  before transformers, which imports it plainly

    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        image_size=16, patch_size=4,
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config)
    batches = [{"pixel_values": torch.randn(8, 3, 16, 16)} for _ in range(2)]
    pruned = mipp.prune(model, batches, budget="macs:0.5", images=16).model
    [done] = export_network(pruned, batches[0], tmp_path)
    assert done.batch is None
    found = torch.export.load(done.path).module()(pixel_values=batches[1]["pixel_values"][:3])
    with torch.no_grad():
        expected = pruned.eval()(pixel_values=batches[1]["pixel_values"][:3]).logits
    torch.testing.assert_close(found["logits"], expected, rtol=1e-4, atol=1e-5)


def test_double_precision_is_kept(tmp_path):
    export_network(After(torch.relu).double(), (8,), tmp_path, kinds=BOTH)
    found = torch.export.load(tmp_path / "model.pt2").module()(torch.randn(3, 8).double())
    assert found.dtype == torch.float64


@pytest.mark.parametrize(
    "then",
    [
        lambda y: y + torch.zeros(len(y), 4),
        lambda y: y * 2 if y.shape[0] > 2 else y,
    ],
    ids=["constant", "branch"],
)
def test_fixed_batch_size_is_said_where_the_code_fixes_it(then, tmp_path, caplog):
    model = After(then)
    with caplog.at_level(logging.INFO, logger="mipp"):
        done = export_network(model, (8,), tmp_path, kinds=BOTH)
    assert "of After takes single inputs only: UserError: Constraints violated" in caplog.text
    assert [entry.batch for entry in done] == [1] * len(BOTH)
    x = torch.randn(1, 8)
    program = torch.export.load(tmp_path / "model.pt2").module()
    torch.testing.assert_close(program(x), logits(model, [x])[0])
    with pytest.raises(AssertionError, match="Guard failed"):
        program(torch.randn(2, 8))


@needs_onnx
def test_onnx_names_its_input_output_and_batch(tmp_path):
    import onnxruntime

    export_network(After(torch.relu), (8,), tmp_path, kinds=["onnx"])
    session = onnxruntime.InferenceSession(
        tmp_path / "model.onnx", providers=["CPUExecutionProvider"]
    )
    (given,), (found,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape) == ("input", ["batch", 8])
    assert (found.name, found.shape) == ("output", ["batch", 4])
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


# Refusals


CALLS = itertools.count()


@torch.library.custom_op("mipptest::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@twice.register_fake
def _(x):
    return torch.empty_like(x)


@pytest.mark.parametrize(
    ("then", "match"),
    [
        (
            lambda y: y * 2 if y.sum() > 0 else y,
            r"After cannot be traced by torch\.export.*GuardOnDataDependent.*Could not guard",
        ),
        (lambda y: torch.from_numpy(y.numpy()), r"cannot be traced.*RuntimeError: \.numpy\(\)"),
        (lambda y: y + torch.rand_like(y), r"batch size 2.*differ.*Expected at most.*got.*random"),
        (lambda y: y / 0 - y / 0, r"differ.*got nan.*not finite"),
        (lambda y: y * 2 if y.shape[0] == 1 else y, r"batch size 1: its outputs differ"),
        (lambda y: y[:, : 1 + next(CALLS) % 4], r"batch size 2.*other shapes.*\[\(2, 1\)\]"),
        (lambda y: SimpleNamespace(y=y), r"Expected a tensor.*got SimpleNamespace; wrap"),
        (lambda y: twice(y), r"operators of torch alone, got mipptest\.twice"),
        (lambda y: y.view(2, 4), r"does not take 1 inputs of shape \(8,\).*RuntimeError"),
    ],
    ids=["data", "numpy", "random", "nan", "alone", "stateful", "class", "operator", "view"],
)
def test_network_that_cannot_be_exported_is_refused_with_the_cause(then, match, tmp_path):
    with pytest.raises(ExportError, match=rf"(?s){match}"):
        export_network(After(then), (8,), tmp_path)
    assert list(tmp_path.iterdir()) == []


@needs_onnx
def test_operator_that_onnx_lacks_is_named(tmp_path):
    model = After(lambda y: torch.linalg.matrix_exp(y[:, :, None] * y[:, None]))
    export_network(model, (8,), tmp_path)
    with pytest.raises(ExportError, match=r"(?s)cannot be written as onnx.*linalg_matrix_exp"):
        export_network(model, (8,), tmp_path, kinds=["onnx"])
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]


def test_other_shape_is_refused(tmp_path):
    with pytest.raises(ExportError, match=r"(?s)After does not take 2 inputs of shape \(9,\)"):
        export_network(After(torch.relu), (9,), tmp_path)


def test_unknown_kind_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"'onx'.*did you mean onnx\? choose from onnx, torch"):
        export_network(After(torch.relu), (8,), tmp_path, kinds=["onx"])
    with pytest.raises(ConfigError, match=r"evaluate\.export\.0: .*'torch' or 'onnx', got 'onx'"):
        load_params(overrides=["evaluate.export=[onx]"])


@pytest.fixture
def without_onnxruntime(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else found(name)
    )


MISSING = r"(?s)'onnx' \({}\).*got no .*onnxruntime; run `pip install .*onnxruntime`"


def test_missing_packages_are_refused_before_any_stage(without_onnxruntime, tmp_path):
    with pytest.raises(ConfigError, match=MISSING.format(r"evaluate\.export")):
        preflight(
            Workdir(tmp_path / "work"), load_params(overrides=["evaluate.export=[torch, onnx]"])
        )
    assert not (tmp_path / "work").exists()
    preflight(Workdir(tmp_path / "work"), load_params())


def test_missing_packages_are_refused_before_tracing(without_onnxruntime, tmp_path):
    with pytest.raises(ConfigError, match=MISSING.format("kinds")):
        export_network(After(torch.relu), (8,), tmp_path, kinds=["torch", "onnx"])
    assert list(tmp_path.iterdir()) == []


# As part of a run

TINY = (
    *SMALLEST,
    "evaluate.export=[torch]",
    "evaluate.latency_repeats=1",
    "evaluate.latency_batch=8",
    "tracking.uri=null",
)


def metrics_in(workdir):
    return json.loads((workdir / "evaluate/metrics.json").read_text())


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A finished run with the default exports."""
    workdir = tmp_path_factory.mktemp("run") / "work"
    run_all(Workdir(workdir), load_params(overrides=TINY))
    return workdir


def test_run_leaves_a_program_of_the_final_network(work):
    final = load_checkpoint(work / "finetune/model.safetensors").model
    x = torch.randn(6, 1, 8, 8)
    found = torch.export.load(work / "evaluate/export/model.pt2").module()(x)
    torch.testing.assert_close(found, logits(final, [x])[0], rtol=1e-4, atol=1e-5)


def test_run_says_what_it_exported(work):
    file = work / "evaluate/export/model.pt2"
    done = {"file": "evaluate/export/model.pt2", "bytes": file.stat().st_size, "batch": None}
    assert metrics_in(work)["exports"] == {"torch": done}
    report = (work / "report/report.md").read_text()
    row = re.search(r"`evaluate/export/model\.pt2` *\| *([\d,]+) *\| *any", report)
    assert row.group(1) == f"{done['bytes'] / 1000:,.0f}"


def test_run_that_exports_nothing_says_nothing_and_reruns_nothing_before(work, tmp_path):
    made = (work / "finetune/manifest.json").stat().st_mtime_ns
    run_all(Workdir(work), load_params(overrides=[*TINY, "evaluate.export=[]"]))
    assert (work / "finetune/manifest.json").stat().st_mtime_ns == made
    assert list((work / "evaluate/export").iterdir()) == []
    assert metrics_in(work)["exports"] == {}
    render(work, tmp_path, title="Bare")
    assert "exported to" not in (tmp_path / "report.md").read_text()


@needs_onnx
def test_run_exports_onnx_where_asked(work):
    run_all(Workdir(work), load_params(overrides=[*TINY, "evaluate.export=[onnx]"]))
    assert [path.name for path in (work / "evaluate/export").iterdir()] == ["model.onnx"]
    assert list(metrics_in(work)["exports"]) == ["onnx"]
