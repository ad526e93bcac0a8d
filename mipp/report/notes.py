"""What an honest reader must know beside the numbers, found in the data of the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from mipp.page.document import Note, code
from mipp.report.groups import group_outcomes
from mipp.report.run import Run
from mipp.report.table import pruned_untrained, share_kept

BUDGET_COUNTS = {"ratio": "units", "params": "params", "macs": "MACs", "latency": "latency"}
SPARE = 0.02  # share of the dense network that a budget may undershoot unremarked
UNSURE = 0.1  # share of a budget of time by which two measurements may differ
FASTER = 0.97  # share of the latency above which nothing was gained
NETWORK = {
    "recalibrated": "Batch-norm recalibration",
    "refit": "Refit",
    "distilled": "Distillation",
}


def noise_points(accuracy: float, images: int) -> float:
    """Half width of the 95 % interval of an accuracy on `images` test images, in points.

    Source: Agresti and Coull (1998): two hits and two misses are added, so that no accuracy is
    certain.
    """
    n = images + 4
    p = (accuracy * images + 2) / n
    return 196 * math.sqrt(p * (1 - p) / n)


def notes(run: Run) -> list[Note]:
    """All notes on a run, warnings first."""
    found = [note for find in NOTES for note in find(run)]
    return sorted(found, key=lambda note: note.level != "warning")


def _collapse(run: Run) -> Iterator[Note]:
    empty = run.metrics["collapsed_groups"]
    if empty:
        yield Note("warning", f"Layer collapse: no channel is left in {_names(empty)}.")
    elif run.metrics["collapsed"]:
        yield Note(
            "warning",
            "Collapse: the final network does no better than answering the most common class.",
        )


def _near_collapse(run: Run) -> Iterator[Note]:
    near = set(run.summary["near_collapsed_groups"])
    floor = run.params["choose"]["min_channels"]
    saved = [
        f"{code(o.name)} ({o.by_floor or o.kept} of {o.width} channels)"
        for o in group_outcomes(run)
        if o.name in near
    ]
    if saved:
        what = "only the floor keeps" if run.by_information() else "down to the floor:"
        yield Note(
            "warning",
            f"Near-collapse, {what} {', '.join(saved)} (`choose.min_channels={floor}`).",
        )


def _narrow(run: Run) -> Iterator[Note]:
    near = set(run.summary["near_collapsed_groups"])
    single = [o.name for o in group_outcomes(run) if o.kept == 1 < o.width and o.name not in near]
    if single:
        yield Note(
            "remark", f"Down to one channel, on merit and not by the floor: {_names(single)}."
        )


def _heads(run: Run) -> Iterator[Note]:
    sizes = run.selection.head_sizes()
    for size in sorted(set(sizes.values())):
        first, *others = [name for name, own in sizes.items() if own == size]
        more = f" and {len(others)} more" if others else ""
        yield Note(
            "remark",
            f"Heads of {code(first)}{more} became {size} dimensions wide before units were chosen, "
            f"`model.narrow_heads={run.params['model']['narrow_heads']}`.",
        )


def _single_run(run: Run) -> Iterator[Note]:
    images = run.metrics.get("test_images")
    text = "One run, one seed: no claim about other seeds follows from it."
    if images:
        noise = noise_points(run.metrics["accuracy_finetuned"], images)
        text += (
            f" With {images:,} test images, differences in accuracy below about {noise:.1f} "
            "points are noise."
        )
    yield Note("remark", text)


def _untrained(run: Run) -> Iterator[Note]:
    if pruned_untrained(run.metrics) and not _by_intent(run):
        yield Note(
            "warning",
            "The dense network was neither trained nor given weights: its accuracy is chance.",
        )


def _at_initialisation(run: Run) -> Iterator[Note]:
    if not _by_intent(run):
        return
    prune, given = run.params["prune"], run.params["model"]["weights"]
    asked = [f"`prune.{key}`" for key in ("refit", "recalibrate") if prune[key]]
    text = (
        "Pruned at initialisation (`train.when=after-pruning`): this run has no trained dense "
        "network to compare with. The same command with `train.when=before-pruning`, in another "
        "work directory, gives one."
    )
    if given:
        text += " The weights of `model.weights` were taken for the initialisation."
    if asked:
        text += f" {' and '.join(asked)} had no effect: there was nothing learnt to repair."
    yield Note("remark", text)


def _by_intent(run: Run) -> bool:
    """Whether the network was left untrained to be pruned so, and not by oversight."""
    return bool(run.params["train"]["when"] == "after-pruning")


def _diverged(run: Run) -> Iterator[Note]:
    for stage, history in run.history.items():
        lost = [e["epoch"] for e in history if not math.isfinite(e["train_loss"])]
        if lost:
            yield Note("warning", f"Stage `{stage}` diverged: no finite loss at epoch {lost[0]}.")


def _repairs(run: Run) -> Iterator[Note]:
    pruned = run.metrics["accuracy_pruned"]
    for key, name in NETWORK.items():
        accuracy = run.accuracy(key)
        if accuracy is not None and accuracy < pruned:
            yield _worse(run, f"{name} lowered the accuracy", pruned, accuracy)
    worse = [f["layer"] for f in run.fits if f["error_after"] > f["error_before"]]
    if worse:
        yield Note("warning", f"Refit raised the reconstruction error of {_names(worse)}.")
    left: dict[str, list[str]] = {}
    for fit in run.fits:
        left.setdefault(fit["left"], []).append(fit["layer"])
    for why, layers in left.items():
        if why:
            yield Note("remark", f"Not fitted, {_names(layers)}: {why}.")


def _finetuning(run: Run) -> Iterator[Note]:
    before, after = run.accuracy(run.untrained()), run.metrics["accuracy_finetuned"]
    assert before is not None
    if not run.epochs_after_pruning():
        yield Note(
            "remark",
            "Fine-tuning was off (`finetune.epochs=0`): the final network is one that pruning "
            "left, and its accuracy needed no training.",
        )
    elif after < before:
        training = "Training" if pruned_untrained(run.metrics) else "Fine-tuning"
        yield _worse(run, f"{training} ended below the network without training", before, after)


def _latency(run: Run) -> Iterator[Note]:
    share, device = share_kept(run.metrics), run.metrics["latency_device"]
    where = f"at batch {run.metrics['latency_batch']} on {device}"
    if share["MACs"] >= FASTER:
        return
    if share["latency"] > FASTER:
        yield Note(
            "warning",
            f"{100 * (1 - share['MACs']):.1f} % fewer MACs did not make the network faster: "
            f"{1 / share['latency']:.2f}x {where}.",
        )
    elif share["latency"] > 1.25 * share["MACs"]:
        yield Note(
            "remark",
            f"Time fell less than work: {1 / share['MACs']:.2f}x fewer MACs, but "
            f"{1 / share['latency']:.2f}x faster {where}.",
        )


def _budget(run: Run) -> Iterator[Note]:
    kind, _, value = str(run.params["choose"]["budget"]).partition(":")
    if kind not in BUDGET_COUNTS:
        return
    asked = 1 - float(value) if kind == "ratio" else float(value)
    remains = share_kept(run.metrics)[BUDGET_COUNTS[kind]]
    what = f"{100 * asked:.1f} % of {BUDGET_COUNTS[kind]}, {100 * remains:.1f} % remain"
    spare = UNSURE * asked if kind == "latency" else SPARE  # a clock is never exact
    if remains > asked + (spare if kind == "latency" else 0.005):
        yield Note("warning", f"The budget is exceeded: it allows {what}.")
    elif remains == 1:
        yield Note("remark", "Nothing was removed: the dense network meets the budget.")
    elif remains < asked - spare:
        yield Note(
            "remark",
            f"The budget allows {what}: units are removed whole, at one threshold for all groups.",
        )


def _worse(run: Run, what: str, before: float, after: float) -> Note:
    """A loss of accuracy; a warning unless it is noise."""
    images = run.metrics.get("test_images")
    lost = 100 * (before - after)
    small = images is not None and lost < noise_points(before, images)
    text = f"{what}: {100 * before:.2f} → {100 * after:.2f} %"
    return Note("remark" if small else "warning", text + (", within the noise." if small else "."))


def _names(names: Sequence[str]) -> str:
    return ", ".join(code(name) for name in names)


NOTES: Sequence[Callable[[Run], Iterator[Note]]] = (
    _collapse,
    _near_collapse,
    _narrow,
    _untrained,
    _at_initialisation,
    _diverged,
    _budget,
    _repairs,
    _finetuning,
    _latency,
    _heads,
    _single_run,
)
