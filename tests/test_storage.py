"""A work directory behind a URL behaves as a folder does, from whichever machine."""

import pickle
from importlib.util import find_spec
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mipp.activations import open_store, write_store
from mipp.config import load_params
from mipp.disk.storage import Workdir
from mipp.disk.workdir import read_manifest, require_writable
from mipp.errors import StorageError, StoreError, WorkdirError
from mipp.stages.sharing import share_stages
from mipp.stages.stage import Stage, run_stage

GROUP = Path("extract/rows.zarr")


@pytest.fixture(params=["folder", "file", "memory"])
def address(request, tmp_path, monkeypatch):
    monkeypatch.setenv("MIPP_CACHE", str(tmp_path / "here"))
    yield {
        "folder": str(tmp_path / "work"),
        "file": f"file://{tmp_path}/work",
        "memory": f"memory://{tmp_path.name}/work",
    }[request.param]
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def remote(tmp_path, monkeypatch):
    monkeypatch.setenv("MIPP_CACHE", str(tmp_path / "here"))
    yield f"memory://{tmp_path.name}/work"
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Opens an address as a machine does that has never seen it."""

    def opened(address):
        monkeypatch.setenv("MIPP_CACHE", str(tmp_path / "elsewhere"))
        return Workdir.open(address)

    return opened


class Writes:
    """A stage body that writes files and counts its runs."""

    def __init__(self, **files):
        self.files, self.runs = files, 0

    def __call__(self, context):
        self.runs += 1
        for name, text in self.files.items():
            (context.out / "deep").mkdir(exist_ok=True)
            (context.out / "deep" / name).write_text(text)


def run(body, workdir, epochs=3):
    stage = Stage("train", body, ("train.epochs",))
    return run_stage(stage, workdir, load_params(None, [f"train.epochs={epochs}"]))


def listed(url):
    files, root = fsspec.core.url_to_fs(url)
    return sorted(name.removeprefix(root).strip("/") for name in files.find(root))


def test_stage_is_found_done_from_elsewhere(address, elsewhere):
    body = Writes(model="weights")
    done = run(body, Workdir.open(address))
    assert run(body, elsewhere(address)) == done
    assert body.runs == 1
    assert (Workdir.open(address).folder / "train/deep/model").read_text() == "weights"


def test_stage_with_other_parameters_replaces_all_of_it(address, elsewhere):
    run(Writes(old="1"), Workdir.open(address))
    run(Writes(new="2"), Workdir.open(address), epochs=4)
    there = elsewhere(address)
    there.stage("train")
    assert [path.name for path in (there.folder / "train/deep").iterdir()] == ["new"]
    assert listed(address) == listed_of("train/deep/new")


def listed_of(*files):
    return sorted([*files, *(f"train/{name}.json" for name in ("manifest", "outputs", "timing"))])


def test_body_that_fails_leaves_what_was_there(address, elsewhere):
    def fails(context):
        (context.out / "half").write_text("half")
        raise RuntimeError("out of memory")

    done = run(Writes(model="weights"), Workdir.open(address))
    with pytest.raises(RuntimeError, match="out of memory"):
        run(fails, Workdir.open(address), epochs=4)
    there = elsewhere(address)
    there.stage("train")
    assert read_manifest(there.folder / "train") == done


def test_stages_behind_an_address_are_shared_with_a_run_elsewhere(address, elsewhere, tmp_path):
    run(Writes(**{"a.txt": "trained"}), Workdir.open(address))
    share_stages(tmp_path / "shares", elsewhere(address))
    assert (tmp_path / "shares/train/deep/a.txt").read_text() == "trained"
    with pytest.raises(WorkdirError, match="nothing to share"):
        share_stages(tmp_path / "shares", elsewhere(f"{address}-of-nobody"))


def test_single_file_travels(address, elsewhere):
    workdir = Workdir.open(address)
    require_writable(workdir)
    (workdir.folder / "params.yaml").write_text("seed: 1")
    workdir.keep_file("params.yaml")
    there = elsewhere(address)
    assert there.file("params.yaml")
    assert (there.folder / "params.yaml").read_text() == "seed: 1"
    assert not there.file("nothing.yaml")


def test_forgotten_folders_are_gone_here_and_there(address, elsewhere):
    workdir = Workdir.open(address)
    (workdir.folder / ".parts-1").mkdir(parents=True)
    (workdir.folder / ".parts-1/a").write_text("a")
    workdir.keep_file(".parts-1/a")
    workdir.forget(".parts-")
    assert not workdir.file(".parts-1/a")
    assert not elsewhere(address).file(".parts-1/a")


def test_address_opens_the_same_work_directory(address):
    workdir = Workdir.open(address)
    assert Workdir.open(workdir.address) == workdir


def test_work_directory_travels_to_another_process_as_a_value(address):
    workdir = Workdir.open(address)
    assert pickle.loads(pickle.dumps(workdir)) == workdir
    assert Workdir.open(str(workdir)) == workdir


def test_work_directory_is_named_as_its_door_takes_it(remote):
    stage = Stage("extract", Writes(rows="1"), (), ("train",))
    assert str(Workdir.open(f"{remote}/")) == remote
    with pytest.raises(WorkdirError, match=f"run `mipp train --workdir {remote}`"):
        run_stage(stage, Workdir.open(remote), load_params())


def test_address_of_a_relative_folder_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Workdir.open("work").address == str(tmp_path / "work")


def test_upload_that_lacks_its_manifest_counts_for_nothing(remote, elsewhere):
    run(Writes(model="weights"), Workdir.open(remote))
    fsspec.filesystem("memory").rm_file(f"{remote}/train/manifest.json")
    again = Writes(model="weights")
    there = elsewhere(remote)
    there.stage("train")
    assert read_manifest(there.folder / "train") is None
    run(again, there)
    assert again.runs == 1


def test_upload_that_was_cut_off_goes_on_from_here(remote, elsewhere):
    body = Writes(model="weights")
    done = run(body, Workdir.open(remote))
    fsspec.filesystem("memory").rm(f"{remote}/train", recursive=True)
    run(body, Workdir.open(remote))
    assert body.runs == 1
    there = elsewhere(remote)
    there.stage("train")
    assert read_manifest(there.folder / "train") == done


def test_file_that_its_manifest_does_not_know_is_refused(remote, elsewhere):
    run(Writes(model="weights"), Workdir.open(remote))
    fsspec.filesystem("memory").pipe_file(f"{remote}/train/deep/model", b"others")
    there = elsewhere(remote)
    with pytest.raises(StorageError, match=r"deep/model.*\nExpected sha256 .*run the stage again"):
        there.stage("train")
    assert not (there.folder / "train").exists()


def test_file_that_is_missing_is_refused(remote, elsewhere):
    run(Writes(model="weights"), Workdir.open(remote))
    fsspec.filesystem("memory").rm_file(f"{remote}/train/deep/model")
    with pytest.raises(StorageError, match="got no file"):
        elsewhere(remote).stage("train")


def test_stage_that_lost_its_input_says_where_it_looked(remote):
    stage = Stage("extract", Writes(rows="1"), (), ("train",))
    with pytest.raises(WorkdirError, match="has no stage 'train'"):
        run_stage(stage, Workdir.open(remote), load_params())


def rows_of(store, pair):
    x, y = (np.concatenate(parts) for parts in zip(*store.rows(pair), strict=True))
    return x, y


def kept_store(workdir, values, pair="a--b"):
    (workdir.folder / "extract").mkdir(parents=True, exist_ok=True)
    batches = [{pair: (torch.tensor(part), torch.tensor(part[:, 0]))} for part in values]
    write_store(workdir.folder / GROUP, batches, {"model": "m"})
    (workdir.folder / "extract/manifest.json").write_text('{"outputs": {}}')
    workdir.keep("extract")


def test_store_is_read_in_place_from_elsewhere(address, elsewhere):
    values = np.arange(120, dtype=np.float32).reshape(2, 10, 3, 2)
    workdir = Workdir.open(address)
    kept_store(workdir, values)
    there = elsewhere(address)
    there.stage("extract")
    x, y = rows_of(open_store(there.location(GROUP), {"model": "m"}), "a--b")
    np.testing.assert_array_equal(x, values.reshape(20, 3, 2))
    np.testing.assert_array_equal(y, values.reshape(20, 3, 2)[:, 0])
    assert workdir.location(GROUP) == workdir.folder / GROUP  # here it need not travel


def test_missing_store_is_named_by_its_address(remote):
    with pytest.raises(StoreError, match=f"activation store {remote}/extract"):
        open_store(Workdir.open(remote).location(GROUP))


def test_damaged_store_is_refused_at_its_address(remote, elsewhere):
    kept_store(Workdir.open(remote), np.ones((1, 4, 3, 2), np.float32))
    fsspec.filesystem("memory").rm(f"{remote}/{GROUP}/a--b/x/c", recursive=True)
    store = open_store(elsewhere(remote).location(GROUP))
    with pytest.raises(StoreError, match=r"damaged at a--b/x"):
        next(store.rows("a--b"))


@settings(max_examples=25, deadline=None)
@given(
    files=st.dictionaries(
        st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8})?\.bin", fullmatch=True), st.binary(max_size=64)
    )
)
def test_any_stage_folder_arrives_as_it_was(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")

    def body(context):
        for name, content in files.items():
            (context.out / name).parent.mkdir(exist_ok=True)
            (context.out / name).write_bytes(content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIPP_CACHE", str(folder / "here"))
        url = f"memory://{folder.name}"
        run(body, Workdir.open(url))
        patch.setenv("MIPP_CACHE", str(folder / "elsewhere"))
        there = Workdir.open(url)
        there.stage("train")
    assert {n: (there.folder / "train" / n).read_bytes() for n in files} == files
    assert len(listed(url)) == len(files) + len(listed_of())


def test_unknown_protocol_is_refused():
    with pytest.raises(StorageError, match=r"s4://b/w cannot be opened.*\n.*got 's4'; use file://"):
        Workdir.open("s4://b/w")


@pytest.mark.skipif(find_spec("gcsfs") is not None, reason="gcsfs is installed")
def test_missing_package_is_named():
    with pytest.raises(StorageError, match=r"pip install 'mipp-pruning\[gs\]'"):
        Workdir.open("gs://bucket/work")
