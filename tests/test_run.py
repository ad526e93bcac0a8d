"""A run over a work directory: its numbers, and what it does a second time, or after a kill."""

import contextlib
import io
import itertools
import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from mipp.checkpoint import load_checkpoint
from mipp.cli import main
from mipp.config import load_params
from mipp.disk.storage import Workdir
from mipp.metrics import count_macs, count_params
from mipp.models import ModelSpec, build_model
from mipp.needed_stages import NAMES
from mipp.selection.selection import Selection
from mipp.stages import STAGES, run_all
from mipp.stages.context import Context
from mipp.stages.stage import declared, needs_run
from tests.smallest_run import SMALLEST

pytestmark = [
    pytest.mark.usefixtures("few_figures"),
    pytest.mark.xdist_group("run"),  # one process makes what many need
]
TINY = (*SMALLEST, "evaluate.latency_batch=8")
LATE = ("train.when=after-pruning", "train.epochs=2", "finetune.epochs=10")
SHARES = (
    "accuracy_dense",
    "accuracy_pruned",
    "accuracy_refit",
    "accuracy_finetuned",
    "units_removed",
)
SIZES = ("params", "params_dense", "macs", "macs_dense")
POSITIVE = ("latency_ms", "latency_dense_ms", "seconds_search", "peak_rss_mb")
TIMED = ("train", "extract", "estimate", "choose", "prune", "finetune")


class Kill(Exception):
    """What ends a run from outside."""


def params_of(*overrides):
    return load_params(overrides=[*TINY, *overrides])


def mipp_run(workdir, *overrides):
    """Last line that `mipp run --json` prints, parsed."""
    options = [f"--set={override}" for override in (*TINY, *overrides)]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(["run", "--quiet", "--json", "--workdir", str(workdir), *options]) == 0
    return json.loads(printed.getvalue().splitlines()[-1])


def times(workdir, stages=tuple(STAGES)):
    """When each file of these stages was last written."""
    return {
        str(file.relative_to(workdir)): file.stat().st_mtime_ns
        for stage in stages
        for file in (workdir / stage).rglob("*")
        if file.is_file()
    }


def rerun(before, after):
    """Stages in which some file was written anew."""
    return [s for s in STAGES if times(before, [s]) != times(after, [s])]


def selection_in(workdir):
    return (workdir / "choose/selection.json").read_bytes()


def metrics_in(workdir):
    return json.loads((workdir / "evaluate/metrics.json").read_text())


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """One finished run, which no test changes, and the metrics that it printed."""
    workdir = tmp_path_factory.mktemp("run") / "work"
    return workdir, mipp_run(workdir)


@pytest.fixture
def work(finished, tmp_path):
    """A copy of the finished run, with the times of its files."""
    shutil.copytree(finished[0], tmp_path / "work")
    return tmp_path / "work"


# What it reports


def test_last_line_holds_the_metrics_of_the_run(finished):
    workdir, printed = finished
    assert printed == metrics_in(workdir)


@pytest.mark.parametrize("name", SHARES)
def test_share_is_between_nought_and_one(finished, name):
    assert isinstance(finished[1][name], float)
    assert 0 <= finished[1][name] <= 1


@pytest.mark.parametrize("name", SIZES)
def test_size_is_a_positive_count(finished, name):
    assert type(finished[1][name]) is int
    assert finished[1][name] > 0


@pytest.mark.parametrize("name", [*POSITIVE, *(f"seconds_{stage}" for stage in TIMED)])
def test_measurement_is_positive(finished, name):
    assert isinstance(finished[1][name], float)
    assert 0 < finished[1][name] < 1e5


def test_latency_says_batch_and_device(finished):
    assert finished[1]["latency_batch"] == 8
    assert finished[1]["latency_device"] == "cpu, 1 threads"


def test_search_is_everything_between_training_and_surgery(finished):
    parts = [finished[1][f"seconds_{stage}"] for stage in ("extract", "estimate", "choose")]
    assert finished[1]["seconds_search"] == pytest.approx(sum(parts))


def test_collapse_is_reported(finished):
    assert finished[1]["collapsed"] is False
    assert finished[1]["collapsed_groups"] == []


def test_sizes_are_those_of_the_networks_on_disk(finished):
    workdir, metrics = finished
    for path, suffix in (("train", "_dense"), ("finetune", "")):
        model = load_checkpoint(workdir / path / "model.safetensors").model
        assert metrics[f"params{suffix}"] == count_params(model)
        assert metrics[f"macs{suffix}"] == count_macs(model, (1, 8, 8))
    # by hand: 64 x 300, 300 x 100 and 100 x 10 weights, and their biases
    assert metrics["macs_dense"] == 64 * 300 + 300 * 100 + 100 * 10
    assert metrics["params_dense"] == metrics["macs_dense"] + 300 + 100 + 10


def test_budget_is_met(finished):
    assert 0.45 < finished[1]["macs"] / finished[1]["macs_dense"] <= 0.5


def test_units_removed_are_those_of_the_selection(finished):
    kept = json.loads(selection_in(finished[0]))["kept"]
    assert finished[1]["units_removed"] == pytest.approx(
        1 - sum(len(k) for k in kept.values()) / (300 + 100)
    )


def test_node_table_explains_every_unit(finished):
    nodes = pq.read_table(finished[0] / "choose/nodes.parquet").to_pandas()
    assert len(nodes) == 300 + 100
    kept = Selection.from_json(selection_in(finished[0]).decode()).kept
    for group, rows in nodes.groupby("group"):
        assert rows.channel[rows.kept].sort_values().tolist() == kept[group].tolist()
    assert set(nodes.why) <= {"informative", "redundant", "floor", "spare"}


def test_trained_network_is_said_to_be(finished):
    assert finished[1]["pruned_when"] == "trained"


# A second time


def test_second_run_redoes_no_stage(work, finished):
    assert mipp_run(work) == finished[1]
    assert rerun(finished[0], work) == []


def test_other_budget_reruns_only_choose_and_later(work, finished):
    mipp_run(work, "choose.budget=macs:0.25")
    assert rerun(finished[0], work) == ["choose", "prune", "finetune", "evaluate", "report"]


def test_other_title_reruns_only_the_report(work, finished):
    mipp_run(work, "report.title=Another")
    assert rerun(finished[0], work) == ["report"]


def test_lost_file_is_made_again(work, finished):
    (work / "choose/nodes.parquet").unlink()
    mipp_run(work)
    assert rerun(finished[0], work) == ["choose"]  # it holds what it held before
    assert selection_in(work) == selection_in(finished[0])


def test_equal_runs_have_equal_manifests_before_evaluation(finished, tmp_path):
    mipp_run(tmp_path / "twin")
    for stage in TIMED:
        first = (finished[0] / stage / "manifest.json").read_text()
        assert (tmp_path / "twin" / stage / "manifest.json").read_text() == first


def test_other_seed_gives_another_run(finished, tmp_path):
    mipp_run(tmp_path / "other", "seed=1")
    assert selection_in(tmp_path / "other") != selection_in(finished[0])


@pytest.mark.parametrize("stage", ["train", "choose", "finetune"])
def test_killed_run_goes_on_where_it_stopped(stage, finished, tmp_path, monkeypatch):
    body = STAGES[stage].body

    def killed(context):
        body(context)
        raise Kill("in the last moment")

    monkeypatch.setitem(STAGES, stage, replace(STAGES[stage], body=killed))
    with pytest.raises(Kill, match="last moment"):
        run_all(Workdir(tmp_path), params_of())
    earlier = list(itertools.takewhile(lambda name: name != stage, STAGES))
    assert sorted(p.name for p in tmp_path.iterdir() if stage in p.name) == []
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == sorted(earlier)

    before = times(tmp_path, earlier)
    monkeypatch.undo()
    run_all(Workdir(tmp_path), params_of())
    assert times(tmp_path, earlier) == before
    assert selection_in(tmp_path) == selection_in(finished[0])
    final = "finetune/model.safetensors"
    assert (tmp_path / final).read_bytes() == (finished[0] / final).read_bytes()


def test_failed_stage_leaves_the_old_folder(work, finished, monkeypatch):
    def killed(context):
        (context.out / "half").write_text("half a result")
        raise Kill("half-way")

    monkeypatch.setitem(STAGES, "choose", replace(STAGES["choose"], body=killed))
    with pytest.raises(Kill, match="half-way"):
        run_all(Workdir(work), params_of("choose.budget=macs:0.25"))
    assert rerun(finished[0], work) == []


# What a stage depends on


class Watched:
    """Parameters that remember which of them were read; a section counts once it is looked into."""

    def __init__(self, params, seen, prefix=""):
        self._params, self._seen, self._prefix = params, seen, prefix

    def __getattr__(self, name):
        value = getattr(self._params, name)
        if hasattr(value, "model_fields_set"):
            return Watched(value, self._seen, f"{name}.")
        self._seen.add(self._prefix + name)
        return value

    def model_dump(self, **options):
        self._seen.update(self._prefix + name for name in type(self._params).model_fields)
        return self._params.model_dump(**options)

    model_dump_json = model_dump


# The network's name travels in its checkpoint; no device, worker or shard may change an answer.
IMPLIED = {
    "model.name", "compute.device", "compute.runner", "compute.strategy", "compute.workers",
    "extract.shards",
}  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        *((stage, ()) for stage in STAGES),
        ("choose", ("choose.method=taylor",)),
        ("choose", ("choose.compare=[macs:0.7]",)),
        *((stage, LATE) for stage in ("train", "prune", "finetune")),
    ],
)
def test_stage_declares_every_parameter_that_it_reads(stage, changes, work, tmp_path):
    params = params_of(*changes)
    seen = set()
    (tmp_path / "out").mkdir()
    watched = Watched(params, seen)
    STAGES[stage].body(Context(Workdir(work), tmp_path / "out", watched, "key"))
    known = declared(STAGES[stage], params)
    undeclared = {
        key for key in seen - IMPLIED if key not in known and key.split(".")[0] not in known
    }
    assert undeclared == set()


def test_criterion_is_scored_anew_when_its_batches_change(work, tmp_path):
    mipp_run(work, "choose.method=taylor")
    mipp_run(work, "choose.method=taylor", "choose.batch_size=16")
    mipp_run(tmp_path / "fresh", "choose.method=taylor", "choose.batch_size=16")
    scores = [
        np.array(pq.read_table(folder / "choose/nodes.parquet")["score"])
        for folder in (work, tmp_path / "fresh")
    ]
    np.testing.assert_array_equal(*scores)


# Other ways to run


def test_no_training_hands_the_given_weights_on_untouched(tmp_path):
    given = build_model(ModelSpec("lenet-300-100", 10, 1, 8), seed=9).state_dict()
    torch.save(given, tmp_path / "given.pt")
    mipp_run(tmp_path / "work", "train.epochs=0", f"model.weights={tmp_path / 'given.pt'}")
    handed_on = load_file(tmp_path / "work/train/model.safetensors")
    assert handed_on.keys() == given.keys()
    assert all(torch.equal(handed_on[name], given[name]) for name in given)


def test_other_weights_under_the_same_name_are_noticed(tmp_path):
    options = ["--set=train.epochs=0", f"--set=model.weights={tmp_path / 'given.pt'}"]
    for seed in (1, 2):
        given = build_model(ModelSpec("lenet5", 10, 1, 28), seed=seed).state_dict()
        torch.save(given, tmp_path / "given.pt")
        assert main(["train", "--quiet", "--workdir", str(tmp_path / "work"), *options]) == 0
        handed_on = load_file(tmp_path / "work/train/model.safetensors")
        assert torch.equal(handed_on["fc1.weight"], given["fc1.weight"])


def test_network_that_nothing_trained_is_said_to_be_untrained(tmp_path):
    given = build_model(ModelSpec("lenet-300-100", 10, 1, 8), seed=9).state_dict()
    torch.save(given, tmp_path / "given.pt")
    off = ("train.epochs=0", "finetune.epochs=0")
    assert mipp_run(tmp_path / "none", *off)["pruned_when"] == "untrained"
    found = mipp_run(tmp_path / "given", *off, f"model.weights={tmp_path / 'given.pt'}")
    assert found["pruned_when"] == "trained"  # elsewhere


def test_run_without_repair_and_fine_tuning_reports_the_pruned_network(work):
    off = ("prune.refit=false", "prune.recalibrate=false", "finetune.epochs=0")
    metrics = mipp_run(work, *off)
    assert metrics["accuracy_refit"] is None
    assert metrics["accuracy_recalibrated"] is None
    assert metrics["accuracy_finetuned"] == metrics["accuracy_pruned"]
    assert not (work / "prune/refit.safetensors").exists()
    pruned, final = (
        load_file(work / file)
        for file in ("prune/pruned.safetensors", "finetune/model.safetensors")
    )
    assert all(torch.equal(pruned[name], final[name]) for name in pruned)


def test_run_without_fine_tuning_ends_with_the_refitted_network(work):
    metrics = mipp_run(work, "finetune.epochs=0")
    assert metrics["accuracy_finetuned"] == metrics["accuracy_refit"]
    assert metrics["accuracy_refit"] is not None


@pytest.mark.parametrize("method", ["l1", "random", "taylor"])
def test_rival_criterion_runs_under_the_same_budget(method, work, finished):
    metrics = mipp_run(work, f"choose.method={method}")
    assert metrics["macs"] / metrics["macs_dense"] <= 0.5
    assert json.loads(selection_in(work))["method"] == method
    assert selection_in(work) != selection_in(finished[0])
    assert rerun(finished[0], work)[0] == "choose"


def test_names_of_the_stages_are_in_the_order_in_which_they_run():
    assert tuple(STAGES) == NAMES


@pytest.fixture(scope="session")
def rival(tmp_path_factory):
    """A finished run of a rival criterion, from nothing, and what it printed."""
    workdir = tmp_path_factory.mktemp("rival") / "work"
    return workdir, mipp_run(workdir, "choose.method=l1")


def test_rival_reads_no_activations_and_is_billed_for_its_choice_alone(rival):
    workdir, metrics = rival
    for stage in ("extract", "estimate"):
        assert sorted(p.name for p in (workdir / stage).iterdir()) == [
            "manifest.json",
            "outputs.json",
            "timing.json",
        ]
        assert metrics[f"seconds_{stage}"] == 0
    assert metrics["seconds_search"] == metrics["seconds_choose"] > 0


def test_second_run_of_a_rival_redoes_no_stage(rival, tmp_path):
    shutil.copytree(rival[0], tmp_path / "work")
    assert mipp_run(tmp_path / "work", "choose.method=l1") == rival[1]
    assert rerun(rival[0], tmp_path / "work") == []


def test_mipp_after_a_rival_extracts_and_selects_what_it_always_does(rival, finished, tmp_path):
    shutil.copytree(rival[0], tmp_path / "work")
    mipp_run(tmp_path / "work")
    assert rerun(rival[0], tmp_path / "work") == list(STAGES)[1:]
    assert selection_in(tmp_path / "work") == selection_in(finished[0])


def test_rival_after_mipp_leaves_its_activations_and_is_not_billed_for_them(work, finished, rival):
    metrics = mipp_run(work, "choose.method=l1")
    assert selection_in(work) == selection_in(rival[0])
    assert metrics["seconds_extract"] == metrics["seconds_estimate"] == 0
    assert metrics["seconds_search"] == metrics["seconds_choose"]
    mipp_run(work)
    assert times(work, ["extract", "estimate"]) == times(finished[0], ["extract", "estimate"])


def test_choice_of_a_rival_needs_the_dense_network_alone(work, finished):
    for stage in ("extract", "estimate", "choose"):
        shutil.rmtree(work / stage)
    options = ["--quiet", "--workdir", str(work), "--set=choose.method=l1"]
    assert main(["choose", *options]) == 0
    assert not (work / "extract").exists()


def test_report_of_a_rival_lists_no_stage_that_it_did_not_need(rival, finished):
    text, ours = ((run[0] / "report/report.md").read_text() for run in (rival, finished))
    assert "| search (choose) |" in text
    assert "| extract |" not in text
    assert "| search (extract, estimate, choose) |" in ours
    assert "| extract |" in ours


@pytest.mark.parametrize(
    ("budget", "kept", "share"), [("params:0.3", "params", 0.3), ("ratio:0.6", None, 0.4)]
)
def test_other_budget_is_met(budget, kept, share, work):
    metrics = mipp_run(work, f"choose.budget={budget}")
    left = metrics["params"] / metrics["params_dense"] if kept else 1 - metrics["units_removed"]
    assert share - 0.05 < left <= share


def test_constant_answer_is_said_to_be_a_collapse(tmp_path):
    """Zero weights answer class 0, and every tenth test image is one: 36 of 360."""
    given = build_model(ModelSpec("lenet-300-100", 10, 1, 8), seed=0).state_dict()
    torch.save({name: torch.zeros_like(t) for name, t in given.items()}, tmp_path / "zero.pt")
    off = ("train.epochs=0", "finetune.epochs=0", "choose.method=random")
    metrics = mipp_run(tmp_path / "work", *off, f"model.weights={tmp_path / 'zero.pt'}")
    assert metrics["accuracy_finetuned"] == 0.1
    assert metrics["collapsed"] is True


def test_stage_takes_the_parameters_of_the_last_run(work, finished, capsys):
    options = ["--quiet", "--workdir", str(work)]
    assert main(["choose", *options]) == 0
    assert rerun(finished[0], work) == []
    assert main(["choose", *options, "--set=choose.budget=macs:0.25"]) == 0
    assert rerun(finished[0], work) == ["choose"]


def test_run_prints_a_table(work, capsys):
    options = [f"--set={override}" for override in TINY]
    assert main(["run", "--quiet", "--workdir", str(work), *options]) == 0
    printed = capsys.readouterr().out
    for part in ("lenet-300-100 on digits, macs:0.5", "dense", "pruned, fine-tuned", "report.html"):
        assert part in printed


# Pruning at initialisation


@pytest.fixture(scope="session")
def late(tmp_path_factory):
    """A finished run that prunes before it trains, which no test changes, and its metrics."""
    workdir = tmp_path_factory.mktemp("late") / "work"
    return workdir, mipp_run(workdir, *LATE)


def history_in(workdir, stage):
    return json.loads((workdir / stage / "history.json").read_text())


def test_late_training_leaves_the_dense_network_as_initialised(late):
    given = build_model(ModelSpec("lenet-300-100", 10, 1, 8), seed=0).state_dict()
    dense = load_file(late[0] / "train/model.safetensors")
    assert dense.keys() == given.keys()
    assert all(torch.equal(dense[name], given[name]) for name in given)
    assert history_in(late[0], "train") == []


def test_late_training_trains_the_pruned_network_under_the_train_section(late, tmp_path):
    assert [e["epoch"] for e in history_in(late[0], "finetune")] == [1, 2]  # finetune.epochs is 10
    shutil.copytree(late[0], tmp_path / "work")
    mipp_run(tmp_path / "work", *LATE, "train.lr=0.001")
    late_rates, rates = (
        [e["lr"] for e in history_in(work, "finetune")] for work in (late[0], tmp_path / "work")
    )
    assert rates == pytest.approx([rate * 0.001 / 0.05 for rate in late_rates])
    assert "choose" not in rerun(late[0], tmp_path / "work")


def test_late_training_learns(late):
    assert late[1]["accuracy_pruned"] < 0.4  # ten classes
    assert late[1]["accuracy_finetuned"] > 0.7


def test_late_training_is_reported_as_pruning_of_an_untrained_network(late):
    assert late[1]["pruned_when"] == "untrained"
    assert late[1]["macs"] / late[1]["macs_dense"] <= 0.5


def test_late_training_starts_from_the_pruned_network_without_repair(late):
    workdir, metrics = late
    assert metrics["accuracy_refit"] is metrics["accuracy_recalibrated"] is None
    assert sorted(file.name for file in (workdir / "prune").glob("*.safetensors")) == [
        "pruned.safetensors"
    ]
    assert json.loads((workdir / "finetune/start.json").read_text()) == {"start": "pruned"}


def test_late_training_takes_given_weights_for_the_initialisation(tmp_path):
    given = build_model(ModelSpec("lenet-300-100", 10, 1, 8), seed=9).state_dict()
    torch.save(given, tmp_path / "given.pt")
    metrics = mipp_run(tmp_path / "work", *LATE, f"model.weights={tmp_path / 'given.pt'}")
    dense = load_file(tmp_path / "work/train/model.safetensors")
    assert all(torch.equal(dense[name], given[name]) for name in given)
    assert metrics["pruned_when"] == "untrained"


def test_other_time_of_training_reruns_what_depends_on_it(tmp_path):
    """Both dense networks are the initialisation: what `choose` read has not changed."""
    before, after = tmp_path / "before", tmp_path / "after"
    mipp_run(before, "train.epochs=0")
    shutil.copytree(before, after)
    mipp_run(after, *LATE)
    assert rerun(before, after) == ["train", "prune", "finetune", "evaluate", "report"]


def test_report_and_table_tell_late_training_from_fine_tuning(late, tmp_path, capsys):
    shutil.copytree(late[0], tmp_path / "work")
    options = [f"--set={override}" for override in (*TINY, *LATE)]
    assert main(["run", "--quiet", "--workdir", str(tmp_path / "work"), *options]) == 0
    printed = capsys.readouterr().out
    assert rerun(late[0], tmp_path / "work") == []
    page = (late[0] / "report/report.md").read_text()
    for text in (printed, page):
        for part in ("dense, untrained", "pruned, untrained", "pruned, then trained for 2 epochs"):
            assert part in text
        assert "fine-tuned" not in text
    assert "after training for 2 epochs" in page
    assert "\n  --set train.when=after-pruning" in page


def test_confidence_finds_its_own_ratio(work):
    metrics = {x: mipp_run(work, f"choose.budget=confidence:{x}") for x in (60, 99)}
    assert 0 < metrics[60]["units_removed"] < metrics[99]["units_removed"] < 1
    nodes = pq.read_table(work / "choose/nodes.parquet").to_pylist()
    for node in nodes:
        assert (node["confidence"] > 99) == (node["why"] == "informative")
    assert json.loads((work / "choose/summary.json").read_text())["threshold"] is None


def test_a_damaged_store_is_written_anew(work, finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "sound")
    mipp_run(tmp_path / "sound", "choose.budget=confidence:60")
    chunk = next(file for file in (work / "extract").rglob("c/*/*/*") if file.is_file())
    chunk.write_bytes(bytes(chunk.stat().st_size))
    mipp_run(work, "choose.budget=confidence:60")
    assert selection_in(work) == selection_in(tmp_path / "sound")
    assert any(chunk.read_bytes())


def test_reconstruction_runs_under_budget_and_confidence(tmp_path):
    work = tmp_path / "work"
    quick = (
        "model.name=test_neighbours:Tiny",
        "choose.estimator=reconstruction",
        "estimate.epochs=2",
        "estimate.width=8",
    )
    quick += ("estimate.retrain_epochs=1", "estimate.batch_size=128", "estimate.repeats=2")
    quick += ("estimate.rows=128", "estimate.held_out=64")
    assert mipp_run(work, *quick, "choose.budget=ratio:0.5")["units_removed"] >= 0.5
    assert (
        Selection.from_json(selection_in(work).decode()).provenance["estimator"] == "reconstruction"
    )
    before = times(work, ("estimate",))
    mipp_run(work, *quick, "choose.budget=confidence:95")
    assert times(work, ("estimate",)) == before, "perceptrons were trained again"


def test_selection_goes_on_to_the_pixels(tmp_path):
    mipp_run(tmp_path, "extract.inputs=pixels", "choose.budget=confidence:95")
    pixels = pq.read_table(tmp_path / "choose/pixels.parquet").to_pylist()
    assert [pixel["channel"] for pixel in pixels] == list(range(64))
    dark = [p for p in pixels if p["single_nats"] == 0]  # corners of the digits are never inked
    assert dark
    assert not [p for p in dark if p["kept"]]
    assert 8 < sum(p["kept"] for p in pixels) < 64
    assert (tmp_path / "report/figures/pixels.svg").exists()
    assert "pixels kept" in (tmp_path / "report/report.html").read_text()


def test_pixels_leave_the_units_as_they_are(work):
    before = selection_in(work)
    mipp_run(work, "extract.inputs=pixels")
    assert selection_in(work) == before


@pytest.mark.parametrize("method", ["mipp", pytest.param("l1", marks=pytest.mark.slow)])
def test_budget_of_time_is_measured_with_the_batch_of_evaluate(tmp_path, method):
    changes = ("choose.budget=latency:0.9", "evaluate.latency_batch=400")
    metrics = mipp_run(tmp_path, *changes, f"choose.method={method}")
    measured = json.loads((tmp_path / "choose/latency.json").read_text())
    summary = json.loads((tmp_path / "choose/summary.json").read_text())["latency"]
    assert measured["wanted"] == summary["wanted"] == 0.9
    assert measured["batch"] == metrics["latency_batch"] == 400
    assert measured["device"] == metrics["latency_device"]
    assert {key: summary[key] for key in ("target", "predicted", "measured")} in measured["tries"]
    modules = [m for curve in measured["table"]["curves"] for m in curve["modules"]]
    assert sorted(modules) == ["fc1", "fc2", "fc3"]
    assert Selection.from_json((tmp_path / "choose/selection.json").read_text()).method == method


def test_other_batch_of_the_clock_reruns_the_choice(tmp_path):
    mipp_run(tmp_path)
    assert not (tmp_path / "choose/latency.json").exists()
    changed = params_of("evaluate.latency_batch=9")
    work = Workdir(tmp_path)
    assert [name for name, stage in STAGES.items() if needs_run(stage, work, changed)] == [
        "choose", "evaluate",
    ]  # fmt: skip


def mipp_run_from(other, workdir, *overrides):
    options = [f"--set={override}" for override in (*TINY, *overrides)]
    return main(["run", "--quiet", "--workdir", str(workdir), "--from", str(other), *options])


def test_run_from_another_work_directory_shares_what_fits(work, tmp_path):
    mipp_run(tmp_path / "alone", "choose.budget=macs:0.3")
    mipp_run(work)
    assert mipp_run_from(work, tmp_path / "shares", "choose.budget=macs:0.3") == 0
    shared = [stage for stage in STAGES if (tmp_path / "shares" / stage).is_symlink()]
    assert shared == ["train", "extract", "estimate"]
    found, wanted = (
        load_file(tmp_path / name / "finetune/model.safetensors") for name in ("shares", "alone")
    )
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_run_from_another_work_directory_makes_what_does_not_fit(work, tmp_path):
    mipp_run(work)
    digest = (work / "train/manifest.json").read_bytes()
    assert mipp_run_from(work, tmp_path / "w", "seed=1", "train.epochs=2") == 0
    assert not any((tmp_path / "w" / stage).is_symlink() for stage in STAGES)
    assert (work / "train/manifest.json").read_bytes() == digest


def test_run_from_nothing_is_refused(tmp_path, capsys):
    assert mipp_run_from(tmp_path / "none", tmp_path / "w") == 2
    assert "nothing to share" in capsys.readouterr().err
