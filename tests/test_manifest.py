"""A manifest that a stage did not write counts as none, or is refused for what it names."""

import json
import os

import pytest

from mipp.config import load_params
from mipp.disk.manifest import MadeFrom, Manifest, parse_manifest
from mipp.disk.storage import ORIGIN, Workdir
from mipp.disk.workdir import MANIFEST, TIMING, read_manifest, read_timing
from mipp.errors import StorageError, WorkdirError
from mipp.stages.stage import Stage, require_current, run_stage

WHOLE = {
    "stage": "train",
    "params": {"train.epochs": 3},
    "inputs": {},
    "code": "c0de",
    "versions": {"torch": "2"},
    "outputs": {"model.txt": "d1"},
}
OF_ANOTHER_TYPE = {
    f"{key} is {value!r}": {**WHOLE, key: value}
    for key, others in {
        "stage": (None, 1, ["train"]),
        "params": (None, [], "epochs", 3.5),
        "inputs": (None, [], {"train": 1}, {"train": None}),
        "code": (None, 0, {}),
        "versions": ("2", {"torch": 2}),
        "outputs": (None, ["model.txt"], "model.txt", {"model.txt": 1}, {"model.txt": ["d1"]}),
    }.items()
    for value in others
}
NO_OBJECT = ["", "{", "[]", "null", "3", '"text"', "NaN", "[" * 100_000, "\udcff\udcfe", "{}"]
LACKING = [{k: v for k, v in WHOLE.items() if k != key} for key in WHOLE]
TEXTS = [
    *NO_OBJECT,
    *(json.dumps(values) for values in (*OF_ANOTHER_TYPE.values(), *LACKING, {**WHOLE, "more": 1})),
]
LEAVING = ["/etc/passwd", "../model.txt", "deep/../../model.txt", "..", "", "C:\\a", "\\\\host\\a"]


def test_whole_manifest_is_read():
    assert parse_manifest(json.dumps(WHOLE).encode(), "here") == Manifest(**WHOLE)
    assert Manifest(**WHOLE).key() == MadeFrom(*list(WHOLE.values())[:-1]).key()


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:40])
def test_manifest_of_another_type_counts_as_none(text, tmp_path):
    (tmp_path / MANIFEST).write_text(text, errors="surrogateescape")
    assert read_manifest(tmp_path) is None


@pytest.mark.parametrize("name", LEAVING)
def test_manifest_that_names_files_elsewhere_is_refused(name, tmp_path):
    (tmp_path / MANIFEST).write_text(json.dumps({**WHOLE, "outputs": {name: "d1"}}))
    with pytest.raises(WorkdirError, match=f"{MANIFEST} names a file outside .*\nExpected .*, got"):
        read_manifest(tmp_path)


class Writes:
    """A stage body that writes a file and counts its runs."""

    runs = 0

    def __call__(self, context):
        self.runs += 1
        (context.out / "model.txt").write_text("weights")


def run(body, workdir):
    stage = Stage("train", body, ("train.epochs",))
    return run_stage(stage, workdir, load_params(None, ["train.epochs=3"]))


@pytest.mark.parametrize("text", ["[]", json.dumps({**WHOLE, "outputs": []})])
def test_stage_with_a_damaged_manifest_is_made_anew(text, tmp_path):
    body, workdir = Writes(), Workdir(tmp_path)
    done = run(body, workdir)
    (tmp_path / "train" / MANIFEST).write_text(text)
    assert run(body, workdir) == done
    assert body.runs == 2


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """An address, and the folder that it is served from."""
    import fsspec

    monkeypatch.setenv("MIPP_CACHE", str(tmp_path / "cache"))
    yield f"memory://{tmp_path.name}/work", fsspec.filesystem("memory")
    fsspec.filesystem("memory").store.clear()


@pytest.mark.parametrize("climbs", [False, True])
def test_manifest_at_an_address_writes_nothing_outside(climbs, remote, tmp_path):
    address, files = remote
    victim = tmp_path / "victim.txt"
    name = f"../../../{victim.name}" if climbs else str(victim)
    hostile = {**WHOLE, "outputs": {name: "d1"}}
    files.pipe_file(f"{address}/train/{MANIFEST}", json.dumps(hostile).encode())
    files.pipe_file(f"{address}/train/{name}", b"owned")
    files.pipe_file(str(victim), b"owned")
    with pytest.raises(WorkdirError, match="outside of its folder"):
        run(Writes(), Workdir.open(address))
    assert not victim.exists()


def test_damaged_manifest_at_an_address_counts_as_none(remote):
    address, files = remote
    files.pipe_file(f"{address}/train/{MANIFEST}", b'{"outputs": ["model.txt"]}')
    done = run(Writes(), Workdir.open(address))
    assert parse_manifest(files.cat_file(f"{address}/train/{MANIFEST}"), "there") == done


@pytest.mark.parametrize(
    "text", ['{"url": "file:///home"}', '{"url": 1}', "{}", "[]", "", "memory://else/where"]
)
def test_folder_cannot_say_itself_that_it_mirrors_an_address(text, tmp_path, monkeypatch):
    """Else its stages would be sent there, after what lies there was removed."""
    monkeypatch.setenv("MIPP_CACHE", str(tmp_path / "cache"))
    (tmp_path / ORIGIN).write_text(text)
    with pytest.raises(StorageError, match=f"{ORIGIN} names an address .*\nExpected .*, got"):
        Workdir.open(tmp_path)


def test_mirror_is_known_by_its_folder(remote):
    address, _ = remote
    mirror = Workdir.open(address)
    assert Workdir.open(mirror.folder) == mirror


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_link_out_of_a_stage_folder_counts_as_changed(kind, tmp_path):
    body, workdir = Writes(), Workdir(tmp_path / "work")
    run(body, workdir)
    outside = tmp_path / "outside"
    if kind == "file":  # of the very content that the manifest says
        outside.write_text("weights")
        (workdir.folder / "train/model.txt").unlink()
        link = workdir.folder / "train/model.txt"
    else:
        outside.mkdir()
        link = workdir.folder / "train/more"
    link.symlink_to(outside)
    stage = Stage("train", body, ("train.epochs",))
    with pytest.raises(WorkdirError, match=f"{link} was changed since"):
        require_current(stage, workdir, load_params(None, ["train.epochs=3"]))
    run(body, workdir)
    assert body.runs == 2
    assert not link.is_symlink()
    assert outside.exists()


def test_linked_stage_folder_is_taken(tmp_path):
    body = Writes()
    run(body, Workdir(tmp_path / "work"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other/train").symlink_to(
        os.path.relpath(tmp_path / "work/train", tmp_path / "other")
    )
    run(body, Workdir(tmp_path / "other"))
    assert body.runs == 1


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "{}", '{"seconds": 1}', '{"seconds": "1", "peak_rss_mb": 2}', "{" * 9999],
)
def test_times_of_another_type_are_refused(text, tmp_path):
    run(Writes(), Workdir(tmp_path))
    (tmp_path / "train" / TIMING).write_text(text)
    with pytest.raises(WorkdirError, match=r"times of stage 'train' .*\nExpected .*, got"):
        read_timing(tmp_path / "train")


def test_times_of_a_stage_that_has_not_run_are_none(tmp_path):
    assert read_timing(tmp_path / "train") == {}
