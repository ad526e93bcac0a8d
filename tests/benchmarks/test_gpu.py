"""The GPU benchmark: its CPU path, its page, and on a GPU that choices do not depend on it."""

import json
from dataclasses import replace
from importlib.metadata import version

import pytest
import torch

from benchmarks.cost.gpu import (
    NETWORKS,
    arguments,
    end_to_end,
    equal_verdicts,
    main,
    measure,
    prepared,
)
from benchmarks.cost.gpu_page import FILE, PAGE, page
from benchmarks.cost.search_steps import cost_of, repetition
from mipp.errors import DataError
from mipp.selection.walk import Walk

pytestmark = pytest.mark.xdist_group("gpu-page")  # one process makes what most need
CPU = torch.device("cpu")
TINY = ["--models", "resnet20", "--size", "32", "--images", "8", "--batch-size", "4"]
TINY += ["--rows", "256", "--repetitions", "1", "--threads", "1"]
STEPS = {"forward", "extract", "estimate", "choose", "search"}
STEPS |= {"measure", "search, no store", "taylor backward", "taylor importance", "taylor"}


def tiny(*more):
    return arguments([*TINY, *more])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """JSON and page of the script's CPU path."""
    folder = tmp_path_factory.mktemp("gpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main([*TINY, "--device", "cpu", "--write"])
        return json.loads(FILE.read_text()), PAGE.read_text()


def test_every_step_has_a_time_and_a_peak(written):
    (measured,) = written[0]["networks"]
    steps = {row["step"]: row for row in measured["steps"]}
    assert steps.keys() == STEPS
    assert all(row["seconds"] > 0 and row["peak MiB"] > 0 for row in steps.values())


def test_a_search_is_its_three_steps_and_ratios_are_of_the_same_run(written):
    steps = {row["step"]: row for row in written[0]["networks"][0]["steps"]}
    three = [steps[name] for name in ("extract", "estimate", "choose")]
    whole = steps["search"]
    assert whole["seconds"] == pytest.approx(sum(row["seconds"] for row in three))
    assert whole["peak MiB"] == max(row["peak MiB"] for row in three)
    for reference, column in (("forward", "forward passes"), ("taylor", "Taylor passes")):
        expected = whole["seconds"] / steps[reference]["seconds"]
        assert whole[column] == pytest.approx(expected)


def test_without_a_gpu_the_page_says_so(written):
    results, text = written
    assert "**No GPU was at hand" in text
    assert f"torch {version('torch')}" in text
    assert results["command"] in text
    assert "Not run: it takes a GPU." in text
    assert results["networks"][0]["equal"] is None


def test_with_a_gpu_the_page_names_card_and_agreement(written):
    results = json.loads(json.dumps(written[0]))
    results["device"] = {"type": "cuda", "name": "Card 7", "cuda": "12.8"}
    results["networks"][0]["equal"] = 0.9876
    accuracies = {f"accuracy_{name}": 0.5 + 0.1 * i for i, name in enumerate(NETWORKS)}
    sizes = {"macs": 1, "macs_dense": 2, "params": 1, "params_dense": 4, "test_images": 10_000}
    seconds = {"seconds_train": 9.0, "seconds_search": 2.5, "seconds_finetune": 5.0}
    results["end to end"] = {"epochs": 10, **accuracies, **sizes, **seconds}
    text = page(results)
    assert "No GPU" not in text
    for part in ("Card: Card 7, CUDA 12.8.", "98.76%", "50.0%", "25.0%", "| dense | 50 |"):
        assert part in text


def test_peak_is_that_of_the_step_alone():
    def make(mib):
        return lambda: len(bytearray(mib * 2**20))

    large, small = (cost_of(make(mib), CPU)[0].peak for mib in (512, 1))
    assert large - small == pytest.approx(511, abs=64)


def test_choices_that_differ_in_one_unit_agree_about_the_others(tmp_path):
    one = prepared(tiny("--budget", "nats:0"), "resnet20", CPU, tmp_path).choice()
    group, (first, *others) = next(iter(one.walk.verdicts.items()))
    walk = Walk({**one.walk.verdicts, group: [replace(first, why="redundant"), *others]})
    assert first.kept
    assert equal_verdicts(one, one) == 1
    units = 3 * (16 + 32 + 64) + 16 + 32 + 64  # first convs of nine blocks, three streams
    assert equal_verdicts(one, replace(one, walk=walk)) == pytest.approx(1 - 1 / units)


def test_end_to_end_waits_for_a_gpu_and_insists_where_it_is_asked_for(tmp_path):
    nowhere = ["--data-root", str(tmp_path)]
    assert end_to_end(tiny(*nowhere), "cpu") is None
    assert end_to_end(tiny(*nowhere, "--end-to-end", "never"), "cpu") is None
    with pytest.raises(DataError, match=str(tmp_path)):
        end_to_end(tiny(*nowhere, "--end-to-end", "always"), "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_chooses_what_the_cpu_chooses():
    measured = measure(tiny("--compared", "8"), "resnet20", torch.device("cuda"))
    assert measured["equal"] > 0.9  # convolutions may be in TF32 there


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_peak_holds_the_weights_at_least(tmp_path):
    search = prepared(tiny(), "resnet20", torch.device("cuda"), tmp_path)
    costs = repetition(search)
    weights = sum(p.numel() * p.element_size() for p in search.model.parameters()) / 2**20
    assert all(cost.peak >= weights for cost in costs.values())
