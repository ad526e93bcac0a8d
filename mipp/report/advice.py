"""What to try next, found in the numbers of the run; each with the parameter that asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from mipp.budget import Budget, parse_budget
from mipp.page.document import Note
from mipp.report.notes import FASTER, noise_points
from mipp.report.run import Run
from mipp.report.table import pruned_untrained, share_kept

FURTHER = 0.6  # of the share that stays now, where it cost nothing
SLOW = 1.5  # times as much of the latency stays as of the work


def advice(run: Run) -> list[Note]:
    """What might make this network better, smaller or faster; empty where nothing is known."""
    return [Note("remark", text) for find in ADVICE for text in find(run)]


def _lost(run: Run) -> float:
    """Points of accuracy that the final network has less than the dense one."""
    return 100 * float(run.metrics["accuracy_dense"] - run.metrics["accuracy_finetuned"])


def _noise(run: Run) -> float:
    images = run.metrics.get("test_images")
    return noise_points(run.metrics["accuracy_dense"], images) if images else 0.0


def _asked(run: Run) -> Budget:
    return parse_budget(run.params["choose"]["budget"])


def _smaller(run: Run) -> Iterator[str]:
    if pruned_untrained(run.metrics) or run.metrics["collapsed"] or _lost(run) > _noise(run):
        return
    asked, share = _asked(run), FURTHER * share_kept(run.metrics)["MACs"]
    points = max(1.0, 2 * asked.value) if asked.is_searched else 1.0  # more than may be lost now
    yield (
        f"Nothing was lost beyond the noise: `choose.budget=macs:{share:.2f}` asks for less, and "
        f"`choose.budget=drop:{points}` finds the smallest network that loses at most "
        f"{'a point' if points == 1 else f'{points:g} points'}, as enough validation images can "
        "tell."
    )


def _better(run: Run) -> Iterator[str]:
    if pruned_untrained(run.metrics) or _lost(run) <= _noise(run):
        return
    lost = f"{_lost(run):.2f} points were lost"
    if run.accuracy("distilled") is None and run.by_information():
        yield (
            f"{lost}: `prune.repair=distill` goes on from the refit without labels, in about a "
            "minute."
        )
    if not run.epochs_after_pruning():
        yield f"{lost}: `finetune.epochs=10` trains the pruned network."
    elif not run.params["finetune"]["distill"]:
        yield f"{lost}: `finetune.distill=0.5` fine-tunes with the dense network as teacher."


def _faster(run: Run) -> Iterator[str]:
    share = share_kept(run.metrics)
    if share["MACs"] >= FASTER or share["latency"] <= SLOW * share["MACs"]:
        return
    by_time = f"`choose.budget=latency:{share['MACs']:.2f}` prunes by what is measured here, and "
    yield (
        f"Time fell less than work: {'' if _asked(run).kind == 'latency' else by_time}"
        "`choose.round_to=8` gives widths that hardware likes."
    )


def _measured(run: Run) -> Iterator[str]:
    if run.trade_off is not None or not run.params["data"]["validation"]:
        return
    yield (
        "`choose.compare=[macs:0.7,macs:0.3]` measures what these budgets would cost, without "
        "training, on the validation images."
    )


ADVICE: Sequence[Callable[[Run], Iterator[str]]] = (_better, _smaller, _faster, _measured)
