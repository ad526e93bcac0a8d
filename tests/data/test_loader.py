"""Batches are the same from any number of processes; what ends one is told in words."""

import dataclasses
import multiprocessing
import os
import signal
import time
from collections import namedtuple

import numpy as np
import pytest
import torch
from PIL import Image

from mipp.config import DataConfig, OptimConfig, Params, load_params
from mipp.data import load_data, loader, split
from mipp.data.loader import Loader, count_workers
from mipp.errors import DataError
from mipp.process.ranks import Ranks
from mipp.stages.pipeline import STAGES
from mipp.stages.stage import stage_params
from mipp.training import train as fit

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # of few cores
    pytest.mark.filterwarnings(
        "ignore:This process:DeprecationWarning"
    ),  # of Python 3.12: it forks
]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """30 training and 4 test JPEGs of many sizes in 2 classes."""
    root, generator = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for part, count in (("train", 30), ("val", 4)):
        for number in range(count):
            folder = root / part / f"class{number % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            height, width = generator.integers(24, 60, 2)
            pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:02}.jpg")
    return root


AUGMENT = ("imagenet-train", "randaugment", "cutout", "mixup", "cutmix")


def split_of(root, workers, augment=AUGMENT):
    config = DataConfig(
        name="image-folder", root=str(root), size=16, calibration=4, validation=0,
        augment=augment, workers=workers,
    )  # fmt: skip
    return load_data(config, seed=0).train


def epochs(split, count=2, batch_size=8):
    """All batches of some epochs."""
    generators = (torch.Generator().manual_seed(epoch) for epoch in range(count))
    return [
        batch
        for generator in generators
        for batch in split.batches(batch_size, generator=generator, augment=True)
    ]


def equal(some, others):
    return len(some) == len(others) and all(
        torch.equal(a, b)
        for s, o in zip(some, others, strict=True)
        for a, b in zip(s, o, strict=True)
    )


def children():
    return {child.pid for child in multiprocessing.active_children()}


def left(before, count):
    """Processes begun since, after a minute for those beyond `count`: torch gives one that was
    told to end five seconds, ends it by a signal then, and does not wait for it to be gone."""
    until = time.monotonic() + 60
    while len(now := children() - before) > count and time.monotonic() < until:
        time.sleep(0.01)
    return now


def refuse(job):
    raise ValueError("not this one")


def test_what_goes_wrong_in_a_process_is_not_taken_for_its_death():
    with pytest.raises(ValueError, match=r"(?s)Caught ValueError.*not this one"):
        list(Loader("mine/train", refuse, workers=1).made(range(6)))


@pytest.mark.parametrize("workers", [1, 4])
def test_any_number_of_processes_makes_the_same_batches(photographs, workers):
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    found = epochs(split_of(photographs, workers))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert equal(found, epochs(split_of(photographs, 0)))
    assert not equal(found[:4], found[4:])


def test_a_killed_training_ends_alike_with_other_workers(photographs, tmp_path):
    class Kill(Exception):
        pass

    def stop(record):
        raise Kill

    def trained(model, workers, **more):
        train, none = split_of(photographs, workers), split_of(photographs, 0).first(0)
        config = OptimConfig(epochs=3, batch_size=8)
        fit(model, train, none, config, seed=0, device=torch.device("cpu"), **more)
        return model[1].weight

    def network():
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 2))

    file = tmp_path / "resume"
    with pytest.raises(Kill):
        trained(network(), 2, checkpoint=file, on_epoch=stop)
    assert file.exists()
    resumed = trained(network(), 1, checkpoint=file)
    assert torch.equal(resumed, trained(network(), 0))


def test_images_in_memory_are_varied_by_processes_too():
    config = DataConfig(augment=("cifar", "randaugment"), size=8, calibration=8)
    found, wanted = (
        epochs(load_data(config.model_copy(update={"workers": n}), seed=0).train.first(30))
        for n in (2, 0)
    )
    assert equal(found, wanted)


def test_a_table_is_decoded_by_processes_group_by_group(parquet_set):
    root, _ = parquet_set  # 40 images in groups of 7
    config = DataConfig(name="parquet", root=str(root), calibration=8, workers=2)
    before = children()
    found = load_data(config, seed=0).train
    wanted = load_data(config.model_copy(update={"workers": 0}), seed=0).train
    assert equal(list(found.batches(10)), list(wanted.batches(10)))
    assert len(left(before, 2)) == 2  # for the batches; those that decoded have ended
    whole = found.part.read(found.indices, found.preparation.frame, "")
    assert torch.equal(found._kept, whole)


def test_processes_stay_for_the_next_pass_and_end_with_the_split(photographs):
    before, split = children(), split_of(photographs, 2)
    epochs(split, 1)
    first = children() - before
    next(split.batches(4, generator=torch.Generator().manual_seed(1)))  # broken off
    epochs(split, 1)
    assert len(first) == 2
    assert children() - before == first
    del split
    assert left(before, 0) == set()


def test_of_two_passes_at_once_both_are_whole(photographs):
    split, one = split_of(photographs, 1), split_of(photographs, 0)
    pairs = list(zip(split.batches(4), split.batches(4), strict=True))
    wanted = list(one.batches(4))
    assert all(equal([a, b], [c, c]) for (a, b), c in zip(pairs, wanted, strict=True))


def test_an_image_that_cannot_be_decoded_is_named_as_without_processes(photographs, tmp_path):
    for part in ("train", "val"):
        for number in range(4):
            folder = tmp_path / part / f"class{number % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 20)).save(folder / f"{number}.jpg")
    split = split_of(tmp_path, 1)
    broken = tmp_path / "train/class1/3.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(DataError, match=r"^\S*3.jpg cannot be decoded.\nExpected") as caught:
        epochs(split, 1, batch_size=2)
    assert "Traceback" not in str(caught.value)


def end_itself(job):
    if job == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return torch.tensor(job)


def test_a_process_that_dies_ends_the_pass_in_words(monkeypatch):
    waits = torch.utils.data.dataloader._MultiProcessingDataLoaderIter._try_get_data
    monkeypatch.setattr(waits, "__defaults__", (0.2,))  # seconds; 5 without
    before, handler = children(), signal.getsignal(signal.SIGCHLD)
    made = Loader("mine/train", end_itself, workers=2)
    says = r"reads images of mine/train has ended.\nExpected .* 2 of them \(data.workers\), got: "
    with pytest.raises(DataError, match=says):
        list(made.made(range(6)))
    assert signal.getsignal(signal.SIGCHLD) == handler  # torch's would raise in anybody's code
    assert children() == before  # the other one has ended with it
    assert [int(number) for number in made.made([0, 1, 2])] == [0, 1, 2]  # by another process


def test_processes_are_as_many_as_cores_and_as_shared_memory_holds(monkeypatch, tmp_path):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(loader, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(loader.shutil, "disk_usage", lambda path: usage(64 * 2**20))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(6), raising=False)
    assert count_workers(None, 2**20, 2**30) == 6
    assert count_workers(None, 64 * 3 * 224**2, 2**30) == 1
    assert count_workers(None, 256 * 3 * 224**2, 2**30) == 0
    assert count_workers(None, 2**20, 2**20) == 0  # sooner read than they start
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(64))
    assert count_workers(None, 1, 2**30) == 8


@pytest.mark.parametrize(
    ("asked", "beside", "each"),
    [(None, 1, 6), (None, 4, 1), (None, 12, 1), (4, 1, 4), (4, 2, 2), (1, 2, 1), (0, 2, 0)],
)
def test_processes_of_a_training_share_those_that_read(asked, beside, each, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(6), raising=False)
    monkeypatch.setattr(loader.Ranks, "here", lambda: Ranks(0, 12))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(beside))
    assert count_workers(asked, 1, 2**30) == each


@pytest.mark.parametrize(
    ("augment", "streams", "workers"),
    [("crop-flip", False, 0), ("randaugment", False, 3), ("crop-flip", True, 3)],
)
def test_processes_are_started_where_images_take_long(augment, streams, workers, monkeypatch):
    monkeypatch.setattr(split, "count_workers", lambda asked, batch, whole: 3)
    data = load_data(DataConfig(augment=augment), seed=0).train
    part = dataclasses.replace(data.part, streams=streams)
    some = split.ImageSplit(part, data.indices, data.preparation, data.augmentation)
    assert some._count_workers(64) == workers


def test_what_a_stage_depends_on_has_no_workers(photographs):
    some, others = (
        load_params(overrides=["data.name=digits", f"data.workers={n}"]) for n in ("null", 3)
    )
    assert stage_params(STAGES["train"], some) == stage_params(STAGES["train"], others)
    assert "workers" in Params().data.model_dump()
