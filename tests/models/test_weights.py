"""Weight files: both formats, both wrappings, every refusal."""

import json
import os
import re
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mipp.config import DataConfig
from mipp.data import load_data
from mipp.errors import CheckpointError
from mipp.models import ModelSpec, build_model, load_weights

SPEC = ModelSpec("resnet20", 10, 3, 32)


@pytest.fixture
def source():
    return build_model(SPEC, seed=1).state_dict()


def assert_loads(path, expected):
    model = build_model(SPEC, seed=2)
    load_weights(model, path)
    loaded = model.state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "module.", "both"])
def test_torch_file_loads_in_every_wrapping(wrap, source, tmp_path):
    named = {f"module.{k}": v for k, v in source.items()} if wrap in ("module.", "both") else source
    content = {"state_dict": named, "epoch": 3} if wrap in ("state_dict", "both") else named
    torch.save(content, tmp_path / "weights.pt")
    assert_loads(tmp_path / "weights.pt", source)


def test_safetensors_file_loads(source, tmp_path):
    save_file(source, tmp_path / "weights.safetensors")
    assert_loads(str(tmp_path / "weights.safetensors"), source)


def test_step_counters_of_batch_norm_may_be_missing(source, tmp_path):
    old = {k: v for k, v in source.items() if not k.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "weights.pt")
    assert_loads(tmp_path / "weights.pt", source)


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_missing_file_is_refused(name, tmp_path):
    with pytest.raises(CheckpointError, match=rf"{name} does not exist.\nExpected a .safetensors"):
        load_weights(build_model(SPEC), tmp_path / name)


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1", b"PK\3\4"])
def test_unreadable_file_is_refused(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name} cannot be read.\nExpected .* got: \S"):
        load_weights(build_model(SPEC), tmp_path / name)


def test_pickled_module_is_never_loaded(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=r"(?s)cannot be read.*pickled modules are never"):
        load_weights(build_model(SPEC), tmp_path / "weights.pt")


@pytest.mark.parametrize(
    ("content", "got"), [([1, 2], "a list"), ({"epoch": 3}, "a int under 'epoch'")]
)
def test_file_without_a_state_dict_is_refused(content, got, tmp_path):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=f"got: {got}"):
        load_weights(build_model(SPEC), tmp_path / "weights.pt")


def quantised():
    return torch.quantize_per_tensor(torch.randn(10, 64), 0.1, 0, torch.qint8)


OF_ANOTHER_KIND = {
    "no name": (lambda: {0: torch.zeros(1)}, "the key 0, which is no name"),
    "bytes for a name": (lambda: {b"linear.bias": torch.zeros(1)}, "the key b'linear.bias'"),
    "quantised": (
        lambda: {"linear.weight": quantised()},
        "a quantised tensor under 'linear.weight'",
    ),
    "sparse": (lambda: {"linear.weight": torch.eye(4).to_sparse()}, "a sparse_coo tensor under"),
    "sparse rows": (
        lambda: {"linear.weight": torch.eye(4).to_sparse_csr()},
        "a sparse_csr tensor under",
    ),
    "meta": (lambda: {"linear.weight": torch.zeros(4, device="meta")}, "a meta tensor under"),
}


@pytest.mark.filterwarnings("ignore:(Sparse|torch.quantize_per_tensor|TypedStorage)")
@pytest.mark.parametrize("kind", OF_ANOTHER_KIND)
def test_file_of_other_tensors_is_refused(kind, tmp_path):
    content, got = OF_ANOTHER_KIND[kind]
    torch.save(content(), tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=rf"Expected .*, got: {re.escape(got)}"):
        load_weights(build_model(SPEC), tmp_path / "weights.pt")


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int8, torch.bool])
def test_weights_that_a_cast_would_change_are_refused(dtype, source, tmp_path):
    source["linear.weight"] = source["linear.weight"].to(dtype)
    save_file(source, tmp_path / "weights.safetensors")
    with pytest.raises(
        CheckpointError, match=rf"linear.weight \(expected torch.float32, got {dtype}"
    ):
        load_weights(build_model(SPEC), tmp_path / "weights.safetensors")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_of_another_precision_are_taken(dtype, source, tmp_path):
    rounded = {k: v.to(dtype) if v.is_floating_point() else v for k, v in source.items()}
    save_file(rounded, tmp_path / "weights.safetensors")
    assert_loads(
        tmp_path / "weights.safetensors", {k: rounded[k].to(v.dtype) for k, v in source.items()}
    )


def test_archive_that_unpacks_to_more_than_it_is_is_refused(tmp_path):
    torch.save({"linear.weight": torch.zeros(2**20)}, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for member in plain.infolist():
            bomb.writestr(member.filename, plain.read(member))
    with pytest.raises(CheckpointError, match=r"got: \d+ bytes that unpack to 4\d+"):
        load_weights(build_model(SPEC), tmp_path / "bomb.pt")


def test_shape_that_a_file_does_not_hold_is_refused(tmp_path):
    header = {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    text = json.dumps(header).encode()
    (tmp_path / "w.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(64))
    with pytest.raises(CheckpointError, match=r"cannot be read.\nExpected .*, got: "):
        load_weights(build_model(SPEC), tmp_path / "w.safetensors")


def test_misfit_names_the_tensors_and_changes_nothing(source, tmp_path):
    source["extra.weight"] = torch.zeros(1)
    source["linear.weight"] = torch.zeros(100, 64)
    for name in ("conv1.weight", "bn1.weight", "bn1.bias", "linear.bias"):
        del source[name]
    torch.save(source, tmp_path / "weights.pt")
    model = build_model(SPEC, seed=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = (
        r"missing: conv1\.weight, bn1\.weight, bn1\.bias and 1 more; unexpected: extra\.weight; "
        r"of another shape: linear\.weight \(expected \(10, 64\), got \(100, 64\)\)"
    )
    with pytest.raises(CheckpointError, match=expected):
        load_weights(model, tmp_path / "weights.pt")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.slow
def test_published_resnet20_reaches_its_accuracy_on_real_cifar():
    places = [os.environ.get("MIPP_DATA", ""), Path(__file__).parents[3] / "shared" / "data"]
    roots = [Path(place) for place in places if (Path(place) / "cifar10-jpeg").is_dir()]
    if not roots:
        pytest.skip("needs CIFAR-10 and a checkpoint in MIPP_DATA or ../shared/data")
    model = build_model(SPEC)
    load_weights(model, roots[0] / "checkpoints" / "resnet20-cifar10-jpeg.pt")
    config = DataConfig(name="parquet", root=str(roots[0] / "cifar10-jpeg"))
    test = load_data(config, seed=0).test
    with torch.no_grad():
        hits = sum(int((model.eval()(x).argmax(1) == y).sum()) for x, y in test.batches(500))
    assert hits == pytest.approx(8797, abs=5)  # 87.97 % by the publisher
