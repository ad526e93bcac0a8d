"""States that wait in a file answer as those in memory do, and hold next to none of it."""

import gc
import os
import shutil
from unittest import mock

import pytest
import torch
from torch import nn

import mipp
from mipp.config import load_params
from mipp.disk.storage import Workdir
from mipp.information.gaussian import PairState, StateAside, aside, prepare_dual, prepare_rows
from mipp.pruning.pruner import Pruner
from mipp.stages import STAGES, run_stage
from tests.smallest_run import SMALLEST

CPU = torch.device("cpu")
FEW, MANY = 6, 64  # rows


def state_of(rows, channels=8, block=3, targets=5):
    torch.manual_seed(rows)
    x, y = torch.randn(rows, channels, block), torch.randn(rows, targets)
    prepare = prepare_dual if rows == FEW else prepare_rows
    return prepare(x, y + x[:, 0, :1], channels, ridge=1e-3, resolution=1e-2)


def answers(state, targets):
    """Everything that a state can be asked, through two walks that drop some."""
    found = [state.single(targets), torch.tensor(state.joint(targets))]
    warm = state.warm_started()
    for dropped in ([1, 4], [4, 1, 6]):
        walk = warm.eliminate(targets)
        for channel in dropped:
            found += [walk.losses(), torch.tensor(walk.loss(channel))]
            walk.drop(channel)
        found.append(walk.losses())
    ordered = state.eliminate_in_order(targets, range(8))
    for channel in range(8):
        found.append(torch.tensor(ordered.loss(channel)))
        (ordered.drop if channel % 2 else ordered.settle)(channel)
    return found


@pytest.mark.parametrize("rows", [FEW, MANY], ids=["few rows", "many rows"])
def test_answers_are_the_same_bit_for_bit(rows):
    state, targets = state_of(rows), torch.tensor([0, 2, 3])
    waiting = aside.Aside().put(state)
    assert isinstance(waiting, StateAside)
    for found, wanted in zip(answers(waiting, targets), answers(state, targets), strict=True):
        assert torch.equal(found, wanted)


def test_several_states_share_a_file_which_goes_with_the_last():
    def open_files():
        return len(os.listdir("/proc/self/fd"))

    before, room = open_files(), aside.Aside()
    states = [state_of(rows) for rows in (FEW, MANY, FEW)]
    waiting = [room.put(state) for state in states]
    targets = torch.tensor([1])
    for one, state in zip(waiting, states, strict=True):
        assert torch.equal(one.single(targets), state.single(targets))
    assert open_files() == before + 1
    del room, waiting[:2], one
    gc.collect()
    assert waiting[0].joint(targets) == states[2].joint(targets)
    waiting.clear()
    gc.collect()
    assert open_files() == before


def test_a_state_stays_in_memory_where_the_disk_is_full(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(aside.os, "pwrite", full)
    state = state_of(MANY)
    assert aside.Aside().put(state) is state


@pytest.mark.parametrize(
    ("size", "device", "free", "wanted"),
    [
        (aside.WORTH, "cpu", 2 * aside.WORTH, True),
        (aside.WORTH - 1, "cpu", 2 * aside.WORTH, False),
        (aside.WORTH, "cpu", aside.WORTH, False),
        (aside.WORTH, "cuda", 2 * aside.WORTH, False),
    ],
)
def test_large_states_are_put_aside_where_there_is_room(monkeypatch, size, device, free, wanted):
    monkeypatch.setattr(aside.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free}))
    assert aside.is_worthwhile(size, torch.device(device)) == wanted


def test_states_stay_in_memory_where_no_folder_takes_files(monkeypatch):
    monkeypatch.setattr(aside.tempfile, "gettempdir", mock.Mock(side_effect=FileNotFoundError))
    assert not aside.is_worthwhile(aside.WORTH, CPU)


@pytest.mark.parametrize("rows", [8192, 32], ids=["many rows", "few rows"])
def test_a_network_is_pruned_alike_with_its_states_aside(monkeypatch, rows):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 24, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(24 * 16, 32), nn.ReLU(), nn.Linear(32, 4),
    ).eval()  # fmt: skip
    images = list(torch.randn(96, 3, 8, 8).split(32))

    def plan():
        pruner = Pruner(model, images)
        ranking = pruner.rank(mipp.settings.Mipp(rows=rows))
        return pruner.plan("macs:0.4", ranking).choice, ranking.estimates.answers(False)

    wanted, states = plan()
    monkeypatch.setattr(aside, "WORTH", 1)
    found, waiting = plan()
    assert all(isinstance(state, PairState) for state in states.values())
    assert all(isinstance(state, StateAside) for state in waiting.values())
    assert found.units() == wanted.units()
    assert found.threshold == wanted.threshold


def test_a_pipeline_chooses_alike_with_its_states_aside(monkeypatch, tmp_path):
    params = load_params(overrides=[*SMALLEST, "train.epochs=0"])
    workdir = Workdir(tmp_path)

    def chosen():
        for name in ("train", "extract", "estimate", "choose"):
            run_stage(STAGES[name], workdir, params)
        files = ("selection.json", "nodes.parquet")
        return [(tmp_path / "choose" / file).read_bytes() for file in files]

    wanted = chosen()
    shutil.rmtree(tmp_path / "choose")
    put = mock.Mock(side_effect=aside.Aside.put)
    monkeypatch.setattr(aside, "WORTH", 1)
    monkeypatch.setattr(aside.Aside, "put", lambda *given: put(*given))
    assert chosen() == wanted
    assert put.call_count == 2
