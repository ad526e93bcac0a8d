"""Stage folders: complete or absent, run again only when something they depend on has changed."""

import json
import os
from importlib import metadata

import pytest

from mipp.config import load_params
from mipp.disk.storage import Workdir
from mipp.disk.workdir import read_manifest, read_timing, require_writable, versions
from mipp.errors import DamagedStoreError, WorkdirError
from mipp.stages.files import given_up_if_damaged
from mipp.stages.sharing import link_stages
from mipp.stages.stage import Stage, needs_run, require_current, run_stage


class Counted:
    """A stage body that writes a text and counts its runs."""

    def __init__(self, text="weights"):
        self.text = text
        self.runs = 0

    def __call__(self, context):
        self.runs += 1
        (context.out / "deep").mkdir()
        (context.out / "deep/model.txt").write_text(self.text)


def fail_half_way(context):
    (context.out / "half.txt").write_text("half")
    raise RuntimeError("out of memory")


def train(body, **fields):
    return Stage("train", body, ("train.epochs",), **fields)


def extract(body):
    return Stage("extract", body, ("extract.rows",), ("train",))


def run(stage, workdir, *overrides):
    return run_stage(stage, Workdir(workdir), load_params(None, overrides))


def everything_in(workdir):
    return {
        str(path.relative_to(workdir)): path.read_text()
        for path in workdir.rglob("*")
        if path.is_file()
    }


def test_stage_leaves_its_files_and_a_manifest_of_them(tmp_path):
    manifest = run(train(Counted()), tmp_path)
    assert sorted(everything_in(tmp_path)) == [
        "train/deep/model.txt",
        "train/manifest.json",
        "train/outputs.json",
        "train/timing.json",
    ]
    assert list(manifest.outputs) == ["deep/model.txt"]
    assert manifest == read_manifest(tmp_path / "train")


def test_body_that_fails_leaves_no_folder(tmp_path):
    with pytest.raises(RuntimeError, match="out of memory"):
        run(train(fail_half_way), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_body_that_fails_leaves_the_old_folder(tmp_path):
    run(train(Counted()), tmp_path)
    before = everything_in(tmp_path)
    with pytest.raises(RuntimeError, match="out of memory"):
        run(train(fail_half_way), tmp_path, "train.epochs=3")
    assert everything_in(tmp_path) == before


def test_nothing_of_the_old_folder_is_left_in_the_new(tmp_path):
    run(train(Counted("old")), tmp_path)
    run(train(lambda context: (context.out / "new.txt").touch()), tmp_path, "train.epochs=3")
    assert sorted(everything_in(tmp_path)) == [
        "train/manifest.json",
        "train/new.txt",
        "train/outputs.json",
        "train/timing.json",
    ]


def test_matching_manifest_is_not_run_again(tmp_path):
    body = Counted()
    assert run(train(body), tmp_path) == run(train(body), tmp_path)
    assert body.runs == 1


def test_changed_parameter_is_run_again(tmp_path):
    body = Counted()
    run(train(body), tmp_path)
    run(train(body), tmp_path, "train.epochs=3")
    assert body.runs == 2


def test_parameter_of_another_stage_changes_nothing(tmp_path):
    body = Counted()
    run(train(body), tmp_path)
    run(train(body), tmp_path, "finetune.epochs=3", "compute.workers=7")
    assert body.runs == 1


def test_changed_input_is_run_again(tmp_path):
    body = Counted()
    for text in ("first", "second"):
        run(train(Counted(text)), tmp_path, f"train.epochs={len(text)}")
        run(extract(body), tmp_path)
    assert body.runs == 2


def test_input_made_anew_with_the_same_files_changes_nothing(tmp_path):
    body = Counted()
    for epochs in (3, 4):
        run(train(Counted("same")), tmp_path, f"train.epochs={epochs}")
        run(extract(body), tmp_path)
    assert body.runs == 1


def test_changed_content_of_a_named_file_is_run_again(tmp_path):
    body, weights = Counted(), tmp_path / "weights.pt"
    for content in ("one", "two", "two"):
        weights.write_text(content)
        run(train(body, files=("model.weights",)), tmp_path, f"model.weights={weights}")
    assert body.runs == 2


def test_missing_output_is_made_again(tmp_path):
    body = Counted()
    run(train(body), tmp_path)
    (tmp_path / "train/deep/model.txt").unlink()
    run(train(body), tmp_path)
    assert body.runs == 2


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"stage": "train"'])
def test_damaged_manifest_counts_as_none(text, tmp_path):
    body = Counted()
    run(train(body), tmp_path)
    (tmp_path / "train/manifest.json").write_text(text)
    run(train(body), tmp_path)
    assert body.runs == 2


@pytest.mark.parametrize("whose", ["own", "theirs"])
def test_damaged_store_is_given_up_and_that_of_another_run_left_to_it(whose, tmp_path):
    store, workdir = tmp_path / whose / "extract", Workdir(tmp_path / "own")
    store.mkdir(parents=True)
    (store / "manifest.json").write_text("{}")
    link_stages(workdir.folder, {"extract": store})
    with pytest.raises(DamagedStoreError), given_up_if_damaged(workdir):
        raise DamagedStoreError("a chunk is missing")
    assert not (workdir.folder / "extract/manifest.json").exists()
    assert (store / "manifest.json").exists() == (whose == "theirs")


def test_missing_earlier_stage_is_named(tmp_path):
    with pytest.raises(WorkdirError, match=r"no stage 'train'(.|\n)*run `mipp train"):
        run(extract(Counted()), tmp_path)


def test_stage_that_would_do_no_work_needs_no_run(tmp_path):
    stage, params = train(Counted()), load_params()
    assert needs_run(stage, Workdir(tmp_path), params)
    run_stage(stage, Workdir(tmp_path), params)
    assert not needs_run(stage, Workdir(tmp_path), params)
    assert needs_run(stage, Workdir(tmp_path), load_params(None, ["train.epochs=3"]))


def test_stage_to_build_on_must_be_there_and_up_to_date(tmp_path):
    stage, params = train(Counted()), load_params()
    with pytest.raises(WorkdirError, match="stage 'train' is missing"):
        require_current(stage, Workdir(tmp_path), params)
    run_stage(stage, Workdir(tmp_path), params)
    require_current(stage, Workdir(tmp_path), params)
    with pytest.raises(WorkdirError, match=r"'train' is out of date(.|\n)*run `mipp train"):
        require_current(stage, Workdir(tmp_path), load_params(None, ["train.epochs=3"]))


def test_timing_is_no_part_of_the_digest(tmp_path):
    digest = run(train(Counted()), tmp_path).digest()
    assert read_timing(tmp_path / "train").keys() == {"seconds", "peak_rss_mb", "host"}
    (tmp_path / "train/timing.json").write_text('{"seconds": 1e6}')
    assert read_manifest(tmp_path / "train").digest() == digest
    assert "timing.json" not in read_manifest(tmp_path / "train").outputs


def test_seconds_spent_before_the_body_are_added_and_not_digested(tmp_path):
    def body(context):
        (context.out / "timing.json").write_text('{"seconds": 500.0}')

    assert run(train(body), tmp_path).outputs == {}
    assert 500 <= read_timing(tmp_path / "train")["seconds"] < 560


def test_two_runs_give_equal_manifests(tmp_path):
    texts = []
    for name in ("one", "two"):
        workdir = tmp_path / name
        run(train(Counted()), workdir)
        run(extract(Counted()), workdir)
        texts.append([(workdir / s / "manifest.json").read_text() for s in ("train", "extract")])
    assert texts[0] == texts[1]


def test_manifest_says_what_the_stage_was_made_from(tmp_path):
    made = run(train(Counted()), tmp_path, "train.epochs=3")
    manifest = json.loads((tmp_path / "train/manifest.json").read_text())
    assert manifest["params"] == {"train.epochs": 3}
    assert manifest["versions"].keys() >= {"python", "torch", "zarr"}
    assert run(extract(Counted()), tmp_path).inputs == {"train": made.digest()}


def test_work_directory_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    body = Counted()
    for workdir in (tmp_path / "file", tmp_path / "file/runs"):
        with pytest.raises(WorkdirError, match=r"cannot be written(.|\n)*--workdir"):
            run(train(body), workdir)
    assert body.runs == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_work_directory_without_write_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(WorkdirError, match=r"cannot be written: Permission denied"):
        require_writable(Workdir(tmp_path))


@pytest.mark.parametrize("package", ["torch", "scipy", "pillow", "pyarrow", "timm", "transformers"])
def test_versions_name_what_makes_networks_numbers_and_images(package):
    try:
        expected = metadata.version(package)
    except metadata.PackageNotFoundError:
        expected = None
    assert versions().get(package) == expected
