"""What was done and what came out, each in one sentence, and the numbers to see from afar."""

from __future__ import annotations

from mipp.report.document import Fact
from mipp.report.run import Run
from mipp.report.table import share_kept

REPAIR = {"refit": "refitted", "recalibrated": "batch-norm recalibrated", "pruned": "only pruned"}


def what_was_done(run: Run) -> str:
    """Model, data, method, budget, repair, training and seed of a run."""
    params, choose = run.params, run.params["choose"]
    images = run.metrics.get("test_images")
    tested = f" ({images:,} test images)" if images else ""
    if run.by_information():
        method = f"mutual information ({choose['estimator']} estimator, {choose['order']} order)"
    else:
        method = f"the score `{run.selection.method}` ({choose['scope']} ranking)"
    epochs = run.finetune_epochs()
    tuned = f"fine-tuned for {epochs} epoch{'s' if epochs > 1 else ''}" if epochs else "no training"
    return (
        f"`{params['model']['name']}` on `{params['data']['name']}`{tested}: pruned by {method} "
        f"under the budget `{choose['budget']}`, then {tuned}; seed {params['seed']}."
    )


def headline(run: Run) -> str:
    """The result in plain words."""
    metrics, share = run.metrics, share_kept(run.metrics)
    if metrics["collapsed_groups"]:
        return (
            f"The network collapsed: {len(metrics['collapsed_groups'])} groups lost all channels."
        )
    removed = f"{100 * (1 - share['MACs']):.1f} % of MACs removed"
    dense, without = metrics["accuracy_dense"], run.accuracy(run.untrained())
    assert without is not None
    path = f"accuracy {100 * dense:.2f} → "
    repair = REPAIR[run.untrained()]
    if run.finetune_epochs():
        after = f"{100 * metrics['accuracy_finetuned']:.2f} % after fine-tuning"
        text = f"{path}{after}, {100 * without:.2f} % without any training ({repair})"
    else:
        text = f"{path}{100 * without:.2f} % without any training ({repair})"
    end = "; the network has collapsed to chance." if metrics["collapsed"] else "."
    return f"{removed}, {text}{end}"


def facts(run: Run) -> list[Fact]:
    """Units, params and MACs removed, speed-up, change in accuracy."""
    metrics, share = run.metrics, share_kept(run.metrics)
    widths = sum(run.selection.width.values())
    kept = sum(run.selection.counts().values())
    change = 100 * (metrics["accuracy_finetuned"] - metrics["accuracy_dense"])
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
        Fact(
            "accuracy, points",
            f"{change:+.2f}",
            f"{100 * metrics['accuracy_dense']:.2f} → {100 * metrics['accuracy_finetuned']:.2f} %",
        ),
    ]


def _removed(name: str, share: float, before: int, after: int) -> Fact:
    return Fact(f"{name} removed", f"{100 * (1 - share):.1f} %", f"{before:,} → {after:,}")
