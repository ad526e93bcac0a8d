"""What a search will need is told within a factor of two, and refused where it is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import mipp
from mipp.budget import parse_budget
from mipp.device import free_bytes
from mipp.errors import ConfigError
from mipp.information.gaussian.state import PairState
from mipp.pruning import needs
from mipp.pruning.pruner import Pruner
from mipp.settings import Gaussian, Mipp, Reconstruction

CPU = torch.device("cpu")


def network(width: int = 24) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, width, 3),
        nn.ReLU(),
        nn.Conv2d(width, width, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 4),
    ).eval()


def images(count: int = 32) -> list[Tensor]:
    return list(torch.randn(count, 3, 12, 12).split(2))


def held(pruner: Pruner, method: Mipp) -> int:
    """Bytes of all states that a ranking really holds."""
    answers = pruner.rank(method).estimates.answers(False)  # type: ignore[union-attr]
    assert len(answers) == 2
    states = list(answers.values())
    assert all(isinstance(state, PairState) for state in states)
    tensors = [t for s in states if isinstance(s, PairState) for t in s.tensors().values()]
    return sum(tensor.nbytes for tensor in tensors)


@pytest.mark.parametrize("rows", [8192, 32], ids=["more rows than features", "few rows"])
def test_bytes_of_estimates_are_those_that_are_held(rows: int) -> None:
    pruner, method = Pruner(network(), images()), Mipp(rows=rows)
    foretold = pruner.needs(method).bytes["estimates"]
    assert held(pruner, method) / 2 <= foretold <= 2 * held(pruner, method)


def test_kernels_count_among_the_features() -> None:
    pruner = Pruner(network(), images())
    sizes = needs.sizes_of(pruner.model, pruner.graph, needs.Sampling(320, 32, 0))
    assert sorted(s.features for s in sizes.values()) == [24, 24 * 9]
    assert sorted(s.rows for s in sizes.values()) == [32, 320]  # of one position, of ten


def test_rows_that_are_held_are_counted() -> None:
    pruner, method = Pruner(network(), images()), Mipp(Reconstruction(), rows=320)
    found = pruner.needs(method)
    assert found.bytes["estimates"] == 8 * (320 * (216 + 24) + 32 * (24 + 4))
    assert not found.seconds
    assert pruner.needs(Mipp(rows=320), tested=True).bytes == found.bytes


def test_more_images_take_longer_and_no_more_memory() -> None:
    few, many = (Pruner(network(), images(count)).needs(Mipp()) for count in (32, 512))
    assert few.bytes == many.bytes
    assert set(few.seconds) == {"extract", "estimate", "choose"}


def test_a_search_without_room_is_refused_before_it_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(needs, "free_bytes", lambda device: 100_000)
    monkeypatch.setattr("mipp.pruning.planner.measure_information", pytest.fail)
    with pytest.raises(
        ConfigError, match=r"(?s)this machine.*lower Mipp.rows to .*keep_inputs=\['2'\]"
    ):
        mipp.prune(network(), images())


def test_what_a_refusal_says_to_lower_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    pruner = Pruner(network(), images())
    whole = pruner.needs(Mipp()).peak
    monkeypatch.setattr(needs, "free_bytes", lambda device: whole - 1)
    with pytest.raises(ConfigError) as refusal:
        pruner.rank(Mipp())
    rows = int(str(refusal.value).partition("lower Mipp.rows to ")[2].partition(",")[0])
    plan = pruner.plan("macs:0.8", pruner.rank(Mipp(rows=rows)))
    assert plan.spending()["macs"] <= 0.8


def test_large_batches_are_to_be_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "free_bytes", lambda device: 1_000)
    with pytest.raises(ConfigError, match="give smaller batches"):
        Pruner(network(4), [torch.randn(64, 3, 40, 40)]).rank(Mipp(Gaussian()))


def test_where_nobody_says_what_is_free_nothing_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(needs, "free_bytes", lambda device: None)
    Pruner(network(), images()).rank()


def test_a_long_search_is_announced_and_a_short_one_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Pruner(network(), images()).rank()
    assert "search" not in capsys.readouterr().err
    monkeypatch.setattr(needs, "WORTH_SAYING", 0.0)
    pruner = Pruner(network(), images())
    pruner.plan("macs:0.5", pruner.rank())
    said = capsys.readouterr().err
    assert said.startswith("search: about ")
    assert said.count("search:") == 1
    assert "estimates" in said


def test_a_refit_is_told_of_before_the_search(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(needs, "WORTH_SAYING", 0.0)
    mipp.prune(network(), images())
    first, second = capsys.readouterr().err.splitlines()[:2]
    assert first.startswith("refit: about ")
    assert "normal equations" in first
    assert second.startswith("search: about ")
    mipp.prune(network(), images(), repair="none")
    assert "refit: about" not in capsys.readouterr().err


def test_a_refit_holds_no_more_for_more_images() -> None:
    few, many = (Pruner(network(), images(n)).needs_of_refit() for n in (2048, 4096))
    assert many.bytes == few.bytes
    assert Pruner(network(), images(8)).needs_of_refit().peak < few.peak / 10


def test_a_refit_without_room_is_refused_before_the_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free = Pruner(network(), images(512)).needs_of_refit().peak - 1
    monkeypatch.setattr("mipp.pruning.needs_of_refit.free_bytes", lambda device: free)
    monkeypatch.setattr("mipp.pruning.planner.measure_information", pytest.fail)
    with pytest.raises(ConfigError, match=r"(?s)a refit does not fit.*images.*repair='recal"):
        mipp.prune(network(), images(512))


def test_a_container_leaves_less_than_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meminfo, limit, used = (tmp_path / name for name in ("meminfo", "max", "current"))
    meminfo.write_text("MemTotal: 9000 kB\nMemAvailable:    5000 kB\n")
    monkeypatch.setattr("mipp.device.MEMINFO", meminfo)
    monkeypatch.setattr("mipp.device.CGROUPS", ((limit, used),))
    assert free_bytes(CPU) == 5000 * 1024
    limit.write_text("max\n")
    used.write_text("100\n")
    assert free_bytes(CPU) == 5000 * 1024
    limit.write_text("4100\n")
    assert free_bytes(CPU) == 4000
    meminfo.unlink()
    limit.unlink()
    assert free_bytes(CPU) is None


def test_a_budget_of_confidence_counts_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_budget("confidence:95").is_tested
    monkeypatch.setattr(needs, "free_bytes", lambda device: 2_000_000)
    pruner = Pruner(network(), images(256))
    with pytest.raises(ConfigError, match=r"lower Mipp.rows to \d+"):
        pruner.rank(Mipp(), "confidence:95")
    assert pruner.rank(Mipp(rows=256), "confidence:95")
