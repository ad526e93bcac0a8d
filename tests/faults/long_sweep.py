"""Sweeps of many cheap points: what a file of them says, and what their processes hold."""

from pathlib import Path
from statistics import median

import psutil

SPEC = """
title: many cheap points
set:
  data.name: digits
  data.limit: 256
  data.size: 8
  data.calibration: 64
  data.validation: 0.0
  extract.rows: 256
  model.name: lenet-300-100
  train.epochs: 1
  finetune.epochs: 0
  prune.images: 64
  evaluate.latency_batch: 1
  evaluate.latency_repeats: 3
  evaluate.export: []
  tracking.uri: {uri}
methods: {methods}
budgets: {budgets}
seeds: {seeds}
start: [trained]
"""
METHODS, BUDGETS = ("mipp", "l1", "taylor", "random-same-widths"), (0.3, 0.5, 0.6, 0.7, 0.8)


def write_spec(file, methods=METHODS, budgets=BUDGETS, seeds=1, uri="null"):
    """A file of an experiment with a point for each method, budget and seed."""
    ratios = [f"ratio:{one}" for one in budgets]
    text = SPEC.format(methods=[*methods], budgets=ratios, seeds=[*range(seeds)], uri=uri)
    file.write_text(text)
    return file


def finished(root):
    """Points that are complete."""
    return len([*Path(root).glob("points/*.json")])


class Watched:
    """A process and its workers, each with what it holds after every so many points."""

    def __init__(self, pid):
        self.process, self.samples = psutil.Process(pid), {}

    def look(self, points):
        """Note what every process holds now; one that has ended in between is left out."""
        for one in (self.process, *self.process.children()):
            try:
                with one.oneshot():
                    memory = one.memory_info()
                    held = {"MiB": memory.data / 2**20, "resident MiB": memory.rss / 2**20}
                    held |= {"handles": one.num_fds(), "threads": one.num_threads()}
            except psutil.NoSuchProcess:
                continue
            self.samples.setdefault(one.pid, []).append((points, held))

    def between(self, pid, first, last):
        """Medians of what a process held while between so many points were complete."""
        held = [held for points, held in self.samples[pid] if first <= points < last]
        return {name: median(one[name] for one in held) for name in held[0]}
