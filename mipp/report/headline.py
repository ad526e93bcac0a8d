"""What was done and what came out, each in one sentence, and the numbers to see from afar."""

from __future__ import annotations

from mipp.page.document import Fact
from mipp.report.run import Run
from mipp.report.table import pruned_untrained, share_kept, spell_epochs

REPAIR = {
    "distilled": "distilled",
    "refit": "refitted",
    "recalibrated": "batch-norm recalibrated",
    "pruned": "only pruned",
}


def what_was_done(run: Run) -> str:
    """Model, data, method, budget, repair, training and seed of a run."""
    params, choose = run.params, run.params["choose"]
    images = run.metrics.get("test_images")
    tested = f" ({images:,} test images)" if images else ""
    if run.by_information():
        method = f"mutual information ({choose['estimator']} estimator, {choose['order']} order)"
    else:
        method = f"the score `{run.selection.method}` ({choose['scope']} ranking)"
    untrained, epochs = pruned_untrained(run.metrics), run.epochs_after_pruning()
    trained = f"{'trained' if untrained else 'fine-tuned'} for {spell_epochs(epochs)}"
    if (rounds := params["finetune"]["rounds"]) > 1:
        trained = f"in {rounds} rounds, {trained} after each, together"
    return (
        f"`{params['model']['name']}` on `{params['data']['name']}`{tested}: pruned "
        f"{'at initialisation ' if untrained else ''}by {method} under the budget "
        f"`{choose['budget']}`, then {trained if epochs else 'no training'}; seed {params['seed']}."
    )


def headline(run: Run) -> str:
    """The result in plain words."""
    metrics, share = run.metrics, share_kept(run.metrics)
    if metrics["collapsed_groups"]:
        return (
            f"The network collapsed: {len(metrics['collapsed_groups'])} groups lost all channels."
        )
    removed = f"{100 * (1 - share['MACs']):.1f} % of MACs removed"
    end = "; the network has collapsed to chance." if metrics["collapsed"] else "."
    if pruned_untrained(metrics):
        return f"Pruned at initialisation, {removed}, {_after_training(run)}{end}"
    dense, without = metrics["accuracy_dense"], run.accuracy(run.untrained())
    assert without is not None
    training = "labels" if run.untrained() == "distilled" else "any training"
    path = f"accuracy {100 * dense:.2f} → "
    repair = REPAIR[run.untrained()]
    if run.epochs_after_pruning():
        after = f"{100 * metrics['accuracy_finetuned']:.2f} % after fine-tuning"
        text = f"{path}{after}, {100 * without:.2f} % without {training} ({repair})"
    else:
        text = f"{path}{100 * without:.2f} % without {training} ({repair})"
    return f"{removed}, {text}{end}"


def _after_training(run: Run) -> str:
    """Accuracy of a network that was pruned untrained; there is no dense one to hold it to."""
    epochs = run.epochs_after_pruning()
    after = f"after training for {spell_epochs(epochs)}" if epochs else "without any training"
    return f"{100 * run.metrics['accuracy_finetuned']:.2f} % {after}"


def facts(run: Run) -> list[Fact]:
    """Units, params and MACs removed, speed-up, change in accuracy (or without a reference, it)."""
    metrics, share = run.metrics, share_kept(run.metrics)
    widths = sum(run.selection.width.values())
    kept = sum(run.selection.counts().values())
    return [
        _removed("units", share["units"], widths, kept),
        _removed("params", share["params"], metrics["params_dense"], metrics["params"]),
        _removed("MACs", share["MACs"], metrics["macs_dense"], metrics["macs"]),
        Fact(
            "speed-up",
            f"{1 / share['latency']:.2f}x",
            f"{metrics['latency_dense_ms']:.2f} → {metrics['latency_ms']:.2f} ms, batch "
            f"{metrics['latency_batch']} on {metrics['latency_device']}",
        ),
        _accuracy(run),
    ]


def _accuracy(run: Run) -> Fact:
    dense, final = (100 * run.metrics[f"accuracy_{key}"] for key in ("dense", "finetuned"))
    if pruned_untrained(run.metrics):
        return Fact("accuracy", f"{final:.2f} %", "no trained dense network to compare with")
    return Fact("accuracy, points", f"{final - dense:+.2f}", f"{dense:.2f} → {final:.2f} %")


def _removed(name: str, share: float, before: int, after: int) -> Fact:
    return Fact(f"{name} removed", f"{100 * (1 - share):.1f} %", f"{before:,} → {after:,}")
