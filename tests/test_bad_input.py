"""Bad input is refused before any work, with exit code 2 and a message that says what to do."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from mipp.cli import main
from mipp.config import load_params
from mipp.disk.occupied import LOCK
from mipp.disk.storage import Workdir
from mipp.models import ModelSpec, build_model
from mipp.stages import STAGES
from mipp.stages.preflight import preflight
from tests.smallest_run import SMALLEST

TINY = (*SMALLEST, "extract.rows=256", "train.epochs=0", "finetune.epochs=0")
SPEC = ModelSpec("lenet-300-100", classes=10, channels=1, size=8)
NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


def mipp(command, workdir, *overrides):
    """Exit code of a command on tiny networks."""
    options = [f"--set={override}" for override in (*TINY, *overrides)]
    return main([command, "--quiet", "--workdir", str(workdir), *options])


def left_behind(workdir):
    """What a refused command made, but for its parameters and its lock."""
    return sorted({p.name for p in workdir.glob("*")} - {"params.yaml", LOCK})


# what is set, and what the message must say: where, expected, got, how to mend
REFUSED = {
    "unknown section": ["trian.epochs=1", "trian", "known key", "did you mean train"],
    "unknown key": ["choose.budjet=1", "choose.budjet", "known key", "did you mean budget"],
    "wrong type": ["train.epochs=many", "train.epochs", "integer", "'many'", "params.yaml"],
    "out of range": ["train.epochs=-1", "train.epochs", "equal to 0", "got -1", "params.yaml"],
    "no number": ["estimate.ridge=.inf", "estimate.ridge", "finite", "got inf", "params.yaml"],
    "no YAML": ["data.augment=[", "data.augment=[", "YAML"],
    "no value": ["train.epochs", "train.epochs", "section.key=value", "no '='"],
    "model": ["model.name=lenet-300-10", "model.name", "did you mean lenet-300-100"],
    "data set": ["data.name=digit", "data.name", "did you mean digits", "choose from cifar10"],
    "criterion": ["choose.method=L1", "choose.method", "did you mean l1", "mipp, mrmr"],
    "estimator": ["choose.estimator=gausian", "choose.estimator", "did you mean gaussian"],
    "order": ["choose.order=im", "choose.order", "'auto', 'mi' or 'best-first'", "got 'im'"],
    "device": ["compute.device=gpu", "compute.device", "cpu, cuda or cuda:N", "'gpu'", "auto"],
    "budget above 1": ["choose.budget=macs:1.5", "choose.budget", "(0, 1]", "'1.5'", "macs:0.5"],
    "budget of no time": [
        "choose.budget=latency:0", "choose.budget", "(0, 1]", "'0'", "latency:0.5",
    ],
    "budget of more time": ["choose.budget=latency:1.5", "(0, 1]", "'1.5'", "measured time"],
    "budget of time out of reach": [
        "choose.budget=latency:0.0001", "choose.budget", "at least latency:", "measured with",
        "relax the budget",
    ],
    "budget kind": ["choose.budget=mac:0.5", "choose.budget", "KIND:VALUE", "did you mean macs"],
    "budget out of reach": [
        "choose.budget=macs:0.0001", "choose.budget", "at least macs:", "got macs:0.0001",
        "relax the budget",
    ],
    "calibration of none": ["data.calibration=0", "data.calibration", "equal to 1", "got 0"],
    "calibration too large": [
        "data.calibration=1294", "data.calibration", "at most its 1293 training images",
        "got 1294", "Set data.calibration=1293",
    ],
    "no training images": ["data.validation=0.9999", "digits", "at least 1", "got 0"],
    "mean of three channels": [
        "data.mean=[0.1, 0.2, 0.3]", "data.mean", "Expected 1 values", "got 3", "leave it out",
    ],
    "image too small": [
        "model.name=lenet5", "lenet5", "at least 12 pixels", "got 8", "Set data.size=12",
    ],
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_run_refuses(case, tmp_path, capsys):
    override, *parts = REFUSED[case]
    assert mipp("run", tmp_path / "work", override) == 2
    message = capsys.readouterr().err
    assert [part for part in parts if part not in message] == []
    assert "Traceback" not in message
    assert left_behind(tmp_path / "work") == []


# what each alone would be taken, and what only a later stage needs
REFUSED_TOGETHER = {
    "nats for a criterion": [
        ("choose.method=l1", "choose.budget=nats:0.1"),
        "choose.budget", "ratio, params, macs or latency", "got nats:0.1",
    ],
    "confidence for a criterion": [
        ("choose.method=l1", "choose.budget=confidence:95"),
        "choose.budget", "choose.method=mipp", "params, macs or latency", "got confidence:95",
    ],
    "confidence for a ranking": [
        ("choose.order=best-first", "choose.budget=confidence:95"),
        "choose.budget", "choose.order=best-first", "Expected choose.order=mi", "change one",
    ],
    "too few images for a test of significance": [
        ("choose.budget=confidence:95", "data.calibration=49"),
        "estimate.repeats=5", "at least 50, got 49", "set data.calibration=50",
    ],
    "too few images for more repeats": [
        ("choose.budget=confidence:95", "data.calibration=69", "estimate.repeats=7"),
        "estimate.repeats=7", "at least 70, got 69", "set data.calibration=70",
    ],
    "too few images to train perceptrons on": [
        ("choose.estimator=reconstruction", "data.calibration=49"),
        "estimate.repeats=5", "at least 50, got 49", "set data.calibration=50",
    ],
    "half precision on the CPU": [
        ("train.precision=float16", "train.epochs=1"),
        "precision", "float32 or bfloat16", "compute.device cpu", "got float16",
    ],
    "fine-tuning in half precision on the CPU": [
        ("finetune.precision=float16", "finetune.epochs=1"),
        "precision", "float32 or bfloat16", "got float16",
    ],
    "a moving average of divided weights": [
        ("train.ema=0.9", "train.epochs=1", "compute.devices=2", "compute.strategy=fsdp"),
        "ema cannot be had", "no process holds all weights", "set compute.strategy=ddp",
    ],
    "a moving average of divided weights in fine-tuning": [
        ("finetune.ema=0.9", "finetune.epochs=1", "compute.devices=2", "compute.strategy=fsdp"),
        "ema cannot be had", "no process holds all weights", "set compute.strategy=ddp",
    ],
    "slimming of divided weights": [
        ("train.slimming=1e-4", "train.epochs=1", "compute.devices=2", "compute.strategy=fsdp",
         "model.name=resnet20"),
        "a regulariser cannot be had", "no process holds all weights", "set compute.strategy=ddp",
    ],
    "no training before or after pruning": [
        ("train.when=after-pruning", "train.epochs=0", "finetune.epochs=10"),
        "train.when=after-pruning with train.epochs=0", "at least 1 epoch", "got 0",
        "set train.epochs=", "train.when=before-pruning",
    ],
    "training after pruning in half precision on the CPU": [
        (
            "train.when=after-pruning", "train.epochs=1", "train.precision=float16",
            "finetune.epochs=10",
        ),
        "precision", "float32 or bfloat16", "got float16",
    ],
    "an order for a criterion": [
        ("choose.method=l1", "choose.order=mi"),
        "choose.order has no effect with choose.method=l1", "left out", "got 'mi'",
        "set choose.method=mipp",
    ],
    "fine-tuning of what train trains": [
        ("train.when=after-pruning", "train.epochs=1", "finetune.epochs=3"),
        "finetune.epochs has no effect with train.when=after-pruning", "left out", "got 3",
        "set train.when=before-pruning",
    ],
    "patience without validation": [
        ("finetune.patience=2", "finetune.epochs=3", "data.validation=0"),
        "patience", "at least 1 validation image", "got 0", "data.validation",
    ],
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED_TOGETHER)
def test_run_refuses_before_the_first_stage(case, tmp_path, capsys):
    overrides, *parts = REFUSED_TOGETHER[case]
    assert mipp("run", tmp_path / "work", *overrides) == 2
    message = capsys.readouterr().err
    assert left_behind(tmp_path / "work") == []
    assert [part for part in parts if part not in message] == []


@pytest.mark.parametrize(
    "overrides",
    [
        ("choose.budget=confidence:95", "data.calibration=50"),
        ("choose.estimator=reconstruction", "data.calibration=50"),
        ("choose.budget=macs:0.5", "data.calibration=49"),
        ("choose.method=l1", "data.calibration=49"),
        ("train.ema=0.9", "train.epochs=1", "compute.devices=2", "compute.strategy=ddp"),
    ],
)
def test_what_is_refused_elsewhere_is_taken(overrides, tmp_path):
    preflight(Workdir(tmp_path / "work"), load_params(overrides=[*TINY, *overrides]))


def test_missing_data_folder_is_refused(tmp_path, capsys):
    nowhere = tmp_path / "nowhere"
    assert mipp("run", tmp_path / "work", "data.name=mnist", f"data.root={nowhere}") == 2
    message = capsys.readouterr().err
    for part in ("'mnist'", str(nowhere), "expected", "got no such files", "data.root"):
        assert part in message
    assert left_behind(tmp_path / "work") == []


def test_missing_weights_are_refused(tmp_path, capsys):
    assert mipp("run", tmp_path / "work", f"model.weights={tmp_path / 'none.pt'}") == 2
    message = capsys.readouterr().err
    for part in ("none.pt", "Expected a .safetensors", "got nothing", "Correct model.weights"):
        assert part in message
    assert left_behind(tmp_path / "work") == []


def test_weights_of_another_network_are_refused(tmp_path, capsys):
    other = build_model(ModelSpec("lenet5", classes=10, channels=1, size=12), seed=0)
    torch.save(other.state_dict(), tmp_path / "other.pt")
    assert mipp("run", tmp_path / "work", f"model.weights={tmp_path / 'other.pt'}") == 2
    message = capsys.readouterr().err
    for part in ("other.pt", "Expected its 6 tensors, got 10", "conv1.weight", "Set model.name"):
        assert part in message
    assert left_behind(tmp_path / "work") == []


def test_file_that_holds_no_weights_is_refused(tmp_path, capsys):
    (tmp_path / "weights.pt").write_text("these are no weights")
    assert mipp("run", tmp_path / "work", f"model.weights={tmp_path / 'weights.pt'}") == 2
    assert "cannot be read" in capsys.readouterr().err
    assert left_behind(tmp_path / "work") == []


@NO_CUDA
def test_missing_gpu_is_refused(tmp_path, capsys):
    assert mipp("run", tmp_path / "work", "compute.device=cuda") == 2
    message = capsys.readouterr().err
    for part in ("compute.device", "Expected at least 1 CUDA GPU", "got 0", "auto or cpu"):
        assert part in message
    assert left_behind(tmp_path / "work") == []


def test_disk_without_room_for_the_activations_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mipp.disk.workdir.free_space", lambda folder: 1000)
    assert mipp("run", tmp_path / "work") == 2
    message = capsys.readouterr().err
    # 256 rows over 128 images: one of each, of 300 and 100 channels and of 100 and 10 targets
    wanted = 4 * 128 * (300 + 100 + 100 + 10)
    for part in (str(tmp_path / "work"), f"at least {wanted:,} bytes free, got 1,000", "--workdir"):
        assert part in message
    assert left_behind(tmp_path / "work") == []
    assert mipp("run", tmp_path / "work", "choose.method=l1", "choose.budget=ratio:0.5") == 0


def test_work_directory_below_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert mipp("run", tmp_path / "file/work") == 2
    message = capsys.readouterr().err
    for part in (str(tmp_path / "file/work"), "write permission", "NotADirectory", "--workdir"):
        assert part in message


def test_work_directory_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "work").write_text("precious")
    assert mipp("run", tmp_path / "work") == 2
    assert "--workdir" in capsys.readouterr().err
    assert (tmp_path / "work").read_text() == "precious"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_work_directory_without_permission_is_refused(tmp_path, capsys):
    tmp_path.chmod(0o555)
    assert mipp("run", tmp_path / "work") == 2
    assert "Permission denied" in capsys.readouterr().err
    tmp_path.chmod(0o755)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ("p.yaml does not exist", "Expected a YAML file", "--config")),
        ("- a\n", ("p.yaml holds no sections", "Expected `section:` lines", "got a list")),
        ("a: [", ("p.yaml is no YAML",)),
        ("train:\n  epoch: 1\n", ("p.yaml", "train.epoch", "known key", "did you mean epochs")),
    ],
)
def test_parameter_file_is_refused(tmp_path, capsys, content, parts):
    if content is not None:
        (tmp_path / "p.yaml").write_text(content)
    arguments = ["--workdir", str(tmp_path / "work"), "--config", str(tmp_path / "p.yaml")]
    assert main(["run", *arguments]) == 2
    message = capsys.readouterr().err
    assert [part for part in parts if part not in message] == []
    assert left_behind(tmp_path / "work") == []


def test_refused_run_leaves_the_parameters_of_the_last_one(tmp_path):
    (tmp_path / "params.yaml").write_text("seed: 5\n")
    assert mipp("run", tmp_path, "model.name=no-such-model") == 2
    assert load_params(tmp_path / "params.yaml").seed == 5


def test_refused_run_ends_the_process_with_two(tmp_path):
    found = subprocess.run(
        [sys.executable, "-m", "mipp", "run", "--workdir", tmp_path / "w", "--set", "sed=1"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 2
    assert found.stdout == ""
    assert found.stderr.startswith("ConfigError: ")
    assert "did you mean seed" in found.stderr
    assert not (tmp_path / "w").exists()


def test_unknown_command_lists_the_stages(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["chose"])
    message = capsys.readouterr().err
    assert [stage for stage in STAGES if stage not in message] == []


def test_nan_in_the_activations_names_the_layer(tmp_path, capsys):
    weights = build_model(SPEC, seed=0).state_dict()
    weights["fc2.weight"][3, 5] = torch.nan
    torch.save(weights, tmp_path / "weights.pt")
    assert mipp("run", tmp_path / "work", f"model.weights={tmp_path / 'weights.pt'}") == 2
    message = capsys.readouterr().err
    for part in ("layer 'fc2'", "NaN", "output", "Expected finite numbers", "check the weights"):
        assert part in message
    assert left_behind(tmp_path / "work") == ["train"]


@pytest.mark.parametrize("stage", [name for name in STAGES if name != "train"])
def test_stage_without_the_ones_before_names_the_command(stage, tmp_path, capsys):
    assert mipp(stage, tmp_path / "work") == 2
    message = capsys.readouterr().err
    for part in ("'train'", "is missing", "manifest.json", f"`mipp train --workdir {tmp_path}"):
        assert part in message
    assert left_behind(tmp_path / "work") == []


@pytest.fixture(scope="session")
def extracted(tmp_path_factory):
    """Two work directories with activations, of networks that differ in their weights alone."""
    folder = tmp_path_factory.mktemp("extracted")
    weights = folder / "weights.pt"
    for name, seed in (("own", 1), ("other", 2)):
        torch.save(build_model(SPEC, seed=seed).state_dict(), weights)
        for stage in ("train", "extract"):
            assert mipp(stage, folder / name, f"model.weights={weights}") == 0
    torch.save(build_model(SPEC, seed=1).state_dict(), weights)
    return folder


@pytest.fixture
def work(extracted, tmp_path):
    """A copy of the first of them, and its network's weights."""
    shutil.copytree(extracted / "own", tmp_path / "work")
    return tmp_path / "work"


def estimate(workdir, extracted):
    return mipp("estimate", workdir, f"model.weights={extracted / 'weights.pt'}")


def refused_as_of_another_model(message, workdir):
    assert "'extract' is out of date" in message
    assert str(workdir / "extract/activations.zarr") in message
    for part in ("was changed since", "Expected", "`mipp extract"):
        assert part in message
    assert not (workdir / "estimate").exists()


def test_store_of_this_model_is_taken(work, extracted):
    assert estimate(work, extracted) == 0
    assert (work / "estimate/manifest.json").exists()


def test_extract_folder_of_another_model_is_refused(work, extracted, capsys):
    shutil.rmtree(work / "extract")
    shutil.copytree(extracted / "other/extract", work / "extract")
    assert estimate(work, extracted) == 2
    message = capsys.readouterr().err
    for part in ("'extract' is out of date", "Expected", f"`mipp extract --workdir {work}`"):
        assert part in message
    assert not (work / "estimate").exists()


def test_store_of_another_model_is_refused(work, extracted, capsys):
    store = work / "extract/activations.zarr"
    shutil.rmtree(store)
    shutil.copytree(extracted / "other/extract/activations.zarr", store)
    assert estimate(work, extracted) == 2
    refused_as_of_another_model(capsys.readouterr().err, work)


def test_store_of_a_model_that_was_changed_since_is_refused(work, extracted, capsys):
    shutil.copyfile(extracted / "other/train/model.safetensors", work / "train/model.safetensors")
    assert estimate(work, extracted) == 2
    assert "train" in capsys.readouterr().err
    assert not (work / "estimate").exists()


def test_store_with_a_lost_chunk_is_refused(work, extracted, capsys):
    chunk = next(file for file in (work / "extract").rglob("c/*/*/*") if file.is_file())
    chunk.unlink()
    assert estimate(work, extracted) == 2
    message = capsys.readouterr().err
    for part in ("StoreError", "damaged", "Expected 1 chunks, got 0", "mipp extract"):
        assert part in message


def test_damaged_network_is_refused(work, extracted, capsys):
    (work / "train/model.safetensors").write_bytes(b"cut off")
    assert mipp("extract", work, "extract.rows=128") == 2
    assert "Traceback" not in capsys.readouterr().err


def test_network_that_was_changed_since_is_refused(work, extracted, capsys):
    file = work / "train/model.safetensors"
    save_file(load_file(file), file)
    weights = f"model.weights={extracted / 'weights.pt'}"
    assert mipp("extract", work, weights, "extract.rows=128") == 2
    message = capsys.readouterr().err
    for part in (str(file), "was changed since", "mipp train"):
        assert part in message


def test_stage_on_parameters_of_another_run_is_refused(work, extracted, capsys):
    weights = f"model.weights={extracted / 'weights.pt'}"
    assert mipp("estimate", work, weights, "data.calibration=64") == 2
    assert "'train' is out of date" in capsys.readouterr().err
