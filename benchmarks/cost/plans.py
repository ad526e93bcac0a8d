"""Several budgets from one `mipp.Pruner`, which measures once, beside calls of `mipp.prune`.

Both are timed in one process, in turns, without repair, which is the same work in either. Their
networks are the same bit for bit, which is checked.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

import mipp
from benchmarks.cost.search_page import PAGE, PLANS, write_page
from benchmarks.shared.command import add_data_root, circumstances, parse, parser
from benchmarks.shared.kept import write_json
from benchmarks.shared.tables import print_table
from benchmarks.shared.workload import load_calibration, load_network
from mipp.process.allocator import keep_freed_memory
from mipp.progress import track

BUDGETS = ("macs:0.7", "macs:0.5", "macs:0.3")
Seconds = dict[str, float]


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser("cost.plans", __doc__ or "", PAGE)
    add_data_root(options)
    options.add_argument("--model", default="resnet20", help="any network that mipp names")
    options.add_argument("--images", type=int, default=2048, help="calibration images")
    options.add_argument("--budgets", nargs="+", default=BUDGETS, help="to plan for")
    options.add_argument("--repetitions", type=int, default=3, help="of both ways, in turns")
    return parse(options, given)


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    split = load_calibration(options.data_root, options.model, options.images)
    model = load_network(options.data_root, options.model, split.preparation.size)
    batches = list(split.batches(256))
    repetitions = track(range(options.repetitions), total=options.repetitions, label="both ways")
    runs = [measure(model, batches, options.images, options.budgets) for _ in repetitions]
    steps = [
        {"step": step, "seconds": float(np.median([run[step] for run in runs]))} for step in runs[0]
    ]
    share = float(np.median([run["one Pruner"] / run["calls"] for run in runs]))
    print_table(steps)
    print(f"one Pruner: {share:.2f} times the seconds of {len(options.budgets)} calls")
    results = {
        "model": options.model,
        "images": options.images,
        "budgets": list(options.budgets),
        "repetitions": options.repetitions,
        "steps": steps,
        "share": share,
        **circumstances(options),
    }
    if options.write:
        write_json(PLANS, results)
        write_page()


def measure(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    images: int,
    budgets: Sequence[str],
) -> Seconds:
    """Seconds of both ways, of the first one step by step."""
    started = time.perf_counter()
    pruner = mipp.Pruner(model, batches, images=images)
    ranking = pruner.rank()
    ranked = time.perf_counter()
    plans = [pruner.plan(budget, ranking) for budget in budgets]
    planned = time.perf_counter()
    cut = [pruner.cut(plan, mipp.NoRepair()) for plan in plans]
    done = time.perf_counter()
    called = [
        mipp.prune(model, batches, budget, images=images, repair="none") for budget in budgets
    ]
    ended = time.perf_counter()
    for one, other in zip(cut, called, strict=True):
        both = zip(one.model.parameters(), other.model.parameters(), strict=True)
        assert all(torch.equal(*pair) for pair in both)
    return {
        "rank": ranked - started,
        "plans": planned - ranked,
        "cuts": done - planned,
        "one Pruner": done - started,
        "calls": ended - done,
    }


if __name__ == "__main__":
    main()
