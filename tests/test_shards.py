"""Any number of shards gives the store of one pass, byte by byte, and what is done stays done."""

import json
import shutil
from unittest import mock

import fsspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import build_small, graph_of, images_for
from torch import nn

from mipp.activations import Sampling, capture_rows
from mipp.activations.capture import Tap
from mipp.config import load_params
from mipp.disk.storage import Workdir
from mipp.disk.workdir import read_manifest, read_timing
from mipp.errors import ConfigError, WorkdirError
from mipp.layers import layer_of
from mipp.process.ranks import Ranks
from mipp.stages import STAGES, pending_shards, preflight, run_shard, run_stage, shards
from mipp.stages.rank import follow
from mipp.stages.rows import calibration_rows
from tests.two_processes import by_two

TINY = (
    "data.size=8",
    "train.epochs=0",
    "extract.rows=512",
    "compute.device=cpu",
)
KINDS = {
    "pixels": ("model.name=lenet-300-100", "extract.inputs=pixels"),
    "maps": ("model.name=lenet5", "data.size=16"),
    "deformed": ("model.name=lenet5", "data.size=16", "data.name=digits-deformed"),
    "residual": ("model.name=resnet20",),
}


def params_of(kind, count, *more):
    return load_params(overrides=[*TINY, *KINDS[kind], f"extract.shards={count}", *more])


def run_extract(workdir, params):
    """The stage's folder: every file's bytes, but those of what was measured."""
    for stage in ("train", "extract"):
        run_stage(STAGES[stage], Workdir(workdir), params)
    files = [path for path in (workdir / "extract").rglob("*") if path.is_file()]
    return {
        str(path.relative_to(workdir)): path.read_bytes()
        for path in files
        if path.name != "timing.json"
    }


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[pytest.mark.slow] * (k == "residual")) for k in KINDS]
)
def test_shards_give_the_bytes_of_one_pass(kind, tmp_path):
    more = ("data.calibration=70", "extract.batch_size=16")
    whole = run_extract(tmp_path / "1", params_of(kind, 1, *more))
    assert any("moments" in name for name in whole)
    for count in (2, 3):
        assert run_extract(tmp_path / str(count), params_of(kind, count, *more)) == whole


def extracted_by_ranks(folder, params):
    """Rank 0 does what the command does, the others follow it; which batches this one ran."""
    ran = []

    def noted(found, batches):
        ran.extend(batches)
        return calibration_rows(found, batches)

    with mock.patch.object(shards, "calibration_rows", noted):
        if Ranks.here().rank:
            follow()
        else:
            run_extract(folder, params)
            Ranks.here().told(None)
    return ran


@pytest.mark.xdist_group("ranks")
def test_processes_that_share_the_images_out_give_the_bytes_of_one_pass(tmp_path):
    more = ("data.calibration=70", "extract.batch_size=16")
    whole = run_extract(tmp_path / "one", params_of("maps", 1, *more))
    params = params_of("maps", 1, *more, "compute.devices=2")
    assert by_two(extracted_by_ranks, tmp_path / "two", params) == [[0, 1], [2, 3, 4]]
    assert run_extract(tmp_path / "two", params) == whole  # made already
    assert not list((tmp_path / "two").glob(".extract.parts-*"))


@settings(max_examples=6, deadline=None)
@given(images=st.integers(4, 40), size=st.integers(1, 13), seed=st.integers(0, 9), data=st.data())
def test_any_division_gives_the_bytes_of_one_pass(tmp_path_factory, images, size, seed, data):
    folder = tmp_path_factory.mktemp("shards")
    more = (f"data.calibration={images}", f"extract.batch_size={size}", f"seed={seed}")
    count = data.draw(st.integers(1, -(-images // size)))
    whole = run_extract(folder / "one", params_of("pixels", 1, *more))
    assert run_extract(folder / "many", params_of("pixels", count, *more)) == whole
    shutil.rmtree(folder)


@settings(max_examples=100, deadline=None)
@given(
    places=st.integers(1, 60),
    images=st.integers(2, 9),
    rows=st.integers(1, 200),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_positions_of_an_image_do_not_depend_on_who_begins_with_it(
    places, images, rows, seed, data
):
    first = data.draw(st.integers(0, images - 1))
    layer, output = nn.Conv2d(2, 2, 1), torch.zeros(images, 2, places, 1)
    whole = Tap(layer_of(layer), Sampling(rows, images, seed), stream=1).draw(output)
    tap = Tap(layer_of(layer), Sampling(rows, images, seed, first), stream=1)
    rest = [tap.draw(part) for part in output[first:].split(2)]
    assert torch.equal(torch.cat(rest), whole[first:])


def test_rows_of_the_last_images_are_those_of_a_whole_pass(seed):
    model, graph, images = build_small("lenet5"), graph_of("lenet5"), images_for("lenet5", 6)
    whole = list(capture_rows(model, graph.pairs, images.split(2), Sampling(60, 6, seed)))
    rest = capture_rows(model, graph.pairs, images[2:].split(2), Sampling(60, 6, seed, 2))
    for found, expected in zip(rest, whole[1:], strict=True):
        for pair in graph.pairs:
            for side, wanted in zip(found[pair.name], expected[pair.name], strict=True):
                assert torch.equal(side, wanted)


@settings(max_examples=200, deadline=None)
@given(images=st.integers(1, 500), size=st.integers(1, 60), count=st.integers(1, 40))
def test_every_batch_is_in_one_shard_and_shards_are_even(images, size, count):
    batches = -(-images // size)
    found = [shards.batches_of(batches, count, shard) for shard in range(count)]
    assert [batch for part in found for batch in part] == list(range(batches))
    assert max(map(len, found)) - min(map(len, found)) <= 1


# Kept, resumed, refused


@pytest.fixture
def trained(tmp_path):
    """Parameters of three shards, and a work directory that waits for them."""
    params = params_of("pixels", 3, "data.calibration=24", "extract.batch_size=4")
    run_stage(STAGES["train"], Workdir(tmp_path / "work"), params)
    return tmp_path / "work", params


def times(workdir):
    return {file: file.stat().st_mtime_ns for file in workdir.glob(".extract.parts-*/*/*")}


def attempts(workdir):
    """How often each shard was begun."""
    found = workdir.glob(".extract.parts-*/*.attempts")
    return {file.stem: len(file.read_text().splitlines()) for file in found}


def test_done_shard_is_not_extracted_again(trained):
    workdir, params = trained
    run_shard(Workdir(workdir), params, 1)
    before = times(workdir)
    run_shard(Workdir(workdir), params, 1)
    assert times(workdir) == before
    assert attempts(workdir) == {"1-of-3": 1}


def test_killed_shard_is_extracted_again_and_the_others_are_not(trained, monkeypatch):
    workdir, params = trained
    whole = run_extract(workdir.with_name("whole"), params)
    run_shard(Workdir(workdir), params, 0)
    written = []

    def killed(file, rows):
        if written:
            raise KeyboardInterrupt
        written.append(write(file, rows))

    write = shards._write
    with monkeypatch.context() as patched:
        patched.setattr(shards, "_write", killed)
        with pytest.raises(KeyboardInterrupt):
            run_stage(STAGES["extract"], Workdir(workdir), params)
    assert read_manifest(workdir / "extract") is None
    assert not list(workdir.glob(".extract.parts-*/1-of-3/done.json"))
    assert pending_shards(Workdir(workdir), params) == [0, 1, 2]
    for shard in range(3):
        run_shard(Workdir(workdir), params, shard)
    assert attempts(workdir) == {"0-of-3": 1, "1-of-3": 2, "2-of-3": 1}
    assert run_extract(workdir, params) == whole


@pytest.mark.parametrize("name", ["1-of-3/done.json", "1-of-3/*.safetensors"])
@pytest.mark.parametrize("content", [b"", b"[]", b"{" * 9999])
def test_damaged_part_is_told_of(name, content, trained):
    workdir, params = trained
    run_shard(Workdir(workdir), params, 1)
    part = next(workdir.glob(f".extract.parts-*/{name}"))
    part.write_bytes(content)
    with pytest.raises(WorkdirError, match=rf"{part} is damaged.\nExpected .*, got: .*delete"):
        run_stage(STAGES["extract"], Workdir(workdir), params)


def test_finished_stage_leaves_no_parts_and_nothing_pending(trained):
    workdir, params = trained
    assert pending_shards(Workdir(workdir), params) == [0, 1, 2]
    run_stage(STAGES["extract"], Workdir(workdir), params)
    assert pending_shards(Workdir(workdir), params) == []
    assert not list(workdir.glob(".extract.parts-*"))


def test_one_shard_is_left_to_the_stage(trained):
    workdir, params = trained
    one = params.extract.model_copy(update={"shards": 1})
    assert pending_shards(Workdir(workdir), params.model_copy(update={"extract": one})) == []


def test_many_shards_of_one_batch_load_the_network_once(tmp_path):
    """Each loaded its own: with 128 shards of one image a run stood still for minutes."""
    params = params_of("pixels", 128, "data.calibration=128", "extract.batch_size=1")
    with (
        mock.patch("mipp.stages.extract.load_calibration", wraps=shards.load_calibration) as whole,
        mock.patch("mipp.stages.shards.load_calibration") as of_a_shard,
    ):
        run_extract(tmp_path, params)
    assert (whole.call_count, of_a_shard.call_count) == (1, 0)


def test_other_number_of_shards_keeps_the_stage(trained):
    workdir, params = trained
    before = run_stage(STAGES["extract"], Workdir(workdir), params)
    other = params.extract.model_copy(update={"shards": 2})
    assert pending_shards(Workdir(workdir), params.model_copy(update={"extract": other})) == []
    assert read_manifest(workdir / "extract") == before


def test_shards_of_other_machines_are_fetched(trained, monkeypatch):
    """Each machine has a mirror of its own, and one of them runs the stage."""
    here, params = trained
    address, mirrors = f"memory://{here.parent.name}/work", {}
    for machine in ("flow", "worker"):
        monkeypatch.setenv("MIPP_CACHE", str(here.with_name(machine)))
        mirrors[machine] = Workdir.open(address)
    try:
        run_stage(STAGES["train"], mirrors["flow"], params)
        for shard in (2, 0):
            run_shard(mirrors["worker"], params, shard)
        run_shard(mirrors["flow"], params, 1)
        for shard in (0, 1, 2):
            run_shard(mirrors["flow"], params, shard)
        assert attempts(mirrors["flow"].folder) == {"1-of-3": 1}
        run_stage(STAGES["extract"], mirrors["flow"], params)
        whole = run_stage(STAGES["extract"], Workdir(here), params)
        assert read_manifest(mirrors["flow"].folder / "extract") == whole
        assert not fsspec.filesystem("memory").glob(f"{address}/.extract.parts-*")
    finally:
        fsspec.filesystem("memory").store.clear()


@pytest.mark.parametrize("change", ["seed=1", "extract.rows=256", "data.calibration=20"])
def test_shards_of_other_parameters_are_not_taken(change, trained):
    workdir, params = trained
    more = ("data.calibration=24", "extract.batch_size=4")
    other = params_of("pixels", 3, *more, change)
    for shard in range(3):
        run_shard(Workdir(workdir), params, shard)
    whole = run_extract(workdir.with_name("whole"), other)
    assert run_extract(workdir, other) == whole


def test_seconds_spent_elsewhere_count(trained):
    workdir, params = trained
    run_shard(Workdir(workdir), params, 2)
    (done,) = workdir.glob(".extract.parts-*/2-of-3/done.json")
    done.write_text(json.dumps({**json.loads(done.read_text()), "seconds": 1000.0}))
    run_stage(STAGES["extract"], Workdir(workdir), params)
    assert 1000 < read_timing(workdir / "extract")["seconds"] < 1500


def test_more_shards_than_batches_are_refused(tmp_path):
    params = params_of("pixels", 4, "data.calibration=24", "extract.batch_size=8")
    with pytest.raises(ConfigError, match=r"extract\.shards=4 (.|\n)*at most 3(.|\n)*shards=3"):
        preflight(Workdir(tmp_path), params)
