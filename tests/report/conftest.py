"""Work directories written by hand: what the stages of a small run would have left."""

import copy
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mipp.config import dump_params, load_params
from mipp.disk.workdir import read_manifest

# stage -> sections of the parameters that its manifest records, as in mipp.stages
SECTIONS = {
    "train": ("seed", "data", "model", "train"),
    "extract": ("seed", "data", "extract.rows", "extract.batch_size"),
    "estimate": ("estimate",),
    "choose": ("seed", "data", "choose"),
    "prune": ("seed", "data", "prune"),
    "finetune": ("seed", "data", "train", "finetune"),
    "evaluate": ("seed", "data", "evaluate"),
}
METRICS = {
    "pruned_when": "trained",
    "accuracy_dense": 0.95,
    "accuracy_pruned": 0.60,
    "accuracy_recalibrated": 0.70,
    "accuracy_refit": 0.90,
    "accuracy_distilled": None,
    "accuracy_finetuned": 0.94,
    "test_images": 400,
    "units_removed": 0.5,
    "params": 500,
    "params_dense": 1000,
    "macs": 5000,
    "macs_dense": 10000,
    "latency_ms": 1.0,
    "latency_dense_ms": 2.0,
    "latency_batch": 64,
    "latency_device": "cpu, 2 threads",
    "collapsed": False,
    "collapsed_groups": [],
    "near_collapsed_groups": [],
    "seconds_search": 3.0,
}
# group -> nats or score per unit; the greater half is kept; top-down, as choose writes them
VALUES = {"fc1": (0.0, 1e-9, 0.02, 0.3), "conv1": (1e-4, 0.5)}


class Workdir:
    """A run on paper; change what it says, then `write` it."""

    def __init__(self, root):
        self.root = root
        self.params = dump_params(load_params())
        self.metrics = copy.deepcopy(METRICS)
        self.values = dict(VALUES)
        self.floor = {}  # group -> units kept only by the floor
        self.heads = {}  # attention -> size of its heads, where they became narrower
        self.left_whole = {"head": "no conv or linear layer reads it"}
        self.fits = [{"layer": "fc1", "error_before": 0.5, "error_after": 0.1, "left": ""}]
        self.history = {"train": [epoch(1, 2.0), epoch(2, 0.5)], "finetune": [epoch(1, 0.4)]}
        self.kept_pixels = None  # rows of booleans, where selection went on to the input
        self.trade_off = None  # points of the curve, where networks were tried
        self.plane = None  # points of an information plane, where it was measured

    def without_repair(self):
        """No refit, no recalibration, no fine-tuning."""
        self.metrics |= {"accuracy_recalibrated": None, "accuracy_refit": None}
        self.metrics["accuracy_finetuned"] = self.metrics["accuracy_pruned"]
        self.fits, self.history["finetune"] = None, []
        self.params["finetune"]["epochs"] = 0

    def at_initialisation(self):
        """Pruned before any training, then trained for two epochs."""
        self.without_repair()
        self.metrics |= {"pruned_when": "untrained", "accuracy_dense": 0.10}
        self.metrics |= {"accuracy_pruned": 0.11, "accuracy_finetuned": 0.94}
        self.params["train"] |= {"when": "after-pruning", "epochs": 2}
        self.history = {"train": [], "finetune": self.history["train"]}

    def write(self):
        for stage, sections in SECTIONS.items():
            (self.root / stage).mkdir(parents=True)
            self._manifest(stage, {name: self._chosen(name) for name in sections})
            self._json(f"{stage}/timing.json", {"seconds": 1.5, "peak_rss_mb": 512.0, "host": "h"})
        for stage, history in self.history.items():
            self._json(f"{stage}/history.json", history)
        if self.fits is not None:
            self._json("prune/fits.json", self.fits)
        self._json("evaluate/metrics.json", self.metrics)
        self._choose()
        if self.plane is not None:
            (self.root / "plane").mkdir()
            pq.write_table(pa.Table.from_pylist(self.plane), self.root / "plane/plane.parquet")
            told = {"estimator": "mixture", "resolution": 0.3, "images": 40, "labels_entropy": 2.3}
            self._json("plane/plane.json", told)
            train = read_manifest(self.root / "train")
            self._manifest("plane", {}, inputs={"train": train.digest()})
        return self.root

    def _chosen(self, key):
        section, _, field = key.partition(".")
        return self.params[section][field] if field else self.params[section]

    def _choose(self):
        by_information = self.params["choose"]["method"] == "mipp"
        summary = {"near_collapsed_groups": list(self.floor), "left_whole": self.left_whole}
        summary["whole"] = [self._whole()] if self.left_whole else []
        if by_information:
            summary["information"] = dict.fromkeys(self.values, 1.25)
            summary["threshold"] = 0.01
        if self.kept_pixels is not None:
            kept = np.array(self.kept_pixels)
            summary["pixels"] = kept.shape
            alone = np.linspace(0, 1, kept.size)
            table = pa.table({"kept": kept.ravel(), "single_nats": alone})
            pq.write_table(table, self.root / "choose/pixels.parquet")
        self._json("choose/summary.json", summary)
        if self.trade_off is not None:
            found = {"chosen": "macs:0.5", "dense": 95.0, "images": 40, "points": self.trade_off}
            self._json("choose/trade_off.json", found)
        nodes = [
            self._node(group, channel, by_information)
            for group, values in self.values.items()
            for channel in range(len(values))
        ]
        pq.write_table(pa.Table.from_pylist(nodes), self.root / "choose/nodes.parquet")
        kept = {
            g: [n["channel"] for n in nodes if n["group"] == g and n["kept"]] for g in self.values
        }
        selection = {
            "method": self.params["choose"]["method"],
            "provenance": {"head sizes": json.dumps(self.heads)} if self.heads else {},
            "width": {group: len(values) for group, values in self.values.items()},
            "kept": kept,
        }
        self._json("choose/selection.json", selection)

    def _whole(self):
        return {
            "layers": ", ".join(self.left_whole),
            "category": "unread",
            "what": "nothing reads them",
            "advice": "nothing: that is its answer",
            "reasons": self.left_whole,
            "shares": {"macs": 0.25, "params": 0.001234},
            "least": {"macs": 0.25, "params": 0.001},
        }

    def _node(self, group, channel, by_information):
        values = self.values[group]
        node = {"group": group, "channel": channel, "kept": channel >= len(values) // 2}
        if not by_information:
            return node | {"score": values[channel]}
        by_floor = len(values) - channel <= self.floor.get(group, 0)
        why = "floor" if by_floor else "informative" if node["kept"] else "redundant"
        nats = {"single_nats": 1.0, "conditional_nats": values[channel]}
        return node | nats | {"visit": channel, "why": why}

    def _manifest(self, stage, params, inputs=()):
        manifest = {
            "stage": stage,
            "code": "c",
            "params": params,
            "inputs": dict(inputs),
            "versions": {"python": "3.11.7", "mipp-pruning": "0.1.0"},
            "outputs": {"file": stage},
        }
        self._json(f"{stage}/manifest.json", manifest)

    def _json(self, path, value):
        (self.root / path).write_text(json.dumps(value))


def epoch(number, loss, validated=True):
    """A line of `history.json`."""
    return {
        "epoch": number,
        "lr": 0.1,
        "train_loss": loss,
        "train_accuracy": 0.5,
        "validation_loss": loss if validated else None,
        "validation_accuracy": 0.4 if validated else None,
    }


@pytest.fixture
def workdir(tmp_path):
    """A run by information with all repairs, not yet written."""
    return Workdir(tmp_path / "work")
