"""Arguments of `mipp.prune` that somebody might pass, of wrong type, range or combination."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

ODD = (None, True, -1, 1.5, "x", b"x", math.nan, 10**400, [], {}, object(), np.ones(2))
FIELDS = (
    "budget", "method", "estimator", "order", "repair", "images", "min_channels", "round_to",
    "limits", "ignore", "keep_outputs", "keep_inputs", "latency_batch", "calls", "loss", "seed",
)  # fmt: skip


def _fails(*_, **__):
    raise KeyError("a score that fails")


def _wrong_scores(data):
    return {name: [1.0] for name in data.graph.groups}


def _no_scores(data):
    return None


def _nan_scores(data):
    return {name: np.full(g.width, np.nan) for name, g in data.graph.groups.items()}


SETS = [
    {"budget": "macs:0"},
    {"budget": "macs:1"},
    {"budget": "macs:-0.5"},
    {"budget": "macs:nan"},
    {"budget": "macs:1e-9"},
    {"budget": "macs:0,5"},
    {"budget": "macs"},
    {"budget": ":0.5"},
    {"budget": "macs:50%"},
    {"budget": "MACS:0.5"},
    {"budget": " macs : 0.5 "},
    {"budget": "params:0.3"},
    {"budget": "ratio:0"},
    {"budget": "ratio:0.99"},
    {"budget": "ratio:1"},
    {"budget": "nats:0"},
    {"budget": "nats:1e9"},
    {"budget": "nats:inf"},
    {"budget": "confidence:95"},
    {"budget": "confidence:100"},
    {"budget": "latency:0"},
    {"budget": "latency:0.5", "method": "l1", "images": 16, "latency_batch": 10**9},
    {"budget": 0.5},
    {"budget": ("macs", 0.5)},
    {"budget": {"macs": 0.5}},
    {"method": "l1"},
    {"method": "taylor"},
    {"method": "random", "seed": -5},
    {"method": "random", "seed": 2**80},
    {"method": "L1"},
    {"method": "no.such.module:score"},
    {"method": "os:system"},
    {"method": "mipp:prune"},
    {"method": _fails},
    {"method": _wrong_scores},
    {"method": _no_scores},
    {"method": _nan_scores},
    {"method": nn.ReLU},
    {"method": print},
    {"method": "l1", "estimator": "reconstruction"},
    {"method": "l1", "order": "mi"},
    {"method": "l1", "loss": nn.MSELoss()},
    {"method": "taylor", "loss": nn.CrossEntropyLoss()},
    {"method": "taylor", "loss": nn.MSELoss()},
    {"method": "taylor", "loss": lambda *_: None},
    {"method": "taylor", "loss": lambda output, labels: output},
    {"method": "taylor", "loss": _fails},
    {"method": "taylor", "loss": lambda output, labels: torch.tensor(1.0)},
    {"loss": nn.MSELoss()},
    {"estimator": "Gaussian"},
    {"estimator": "no.module:thing"},
    {"order": "random"},
    {"order": "mi"},
    {"repair": "REFIT"},
    {"repair": "recalibrate"},
    {"repair": "none"},
    {"images": 1},
    {"images": 2},
    {"images": 10**12},
    {"min_channels": 3},
    {"min_channels": 10**6},
    {"round_to": 4},
    {"round_to": 64},
    {"round_to": 10**30},
    {"round_to": 4, "min_channels": 5},
    {"limits": {"*": 0.0}},
    {"limits": {"*": 0.2}},
    {"limits": {"conv": 2}},
    {"limits": {"conv": "half"}},
    {"limits": {3: 0.5}},
    {"limits": {"nothing": 0.5}},
    {"limits": {"[": 0.5}},
    {"limits": [("conv", 0.5)]},
    {"limits": "conv:0.5"},
    {"ignore": "conv"},
    {"ignore": ["*"]},
    {"ignore": ["conv"]},
    {"ignore": ["no such layer"]},
    {"ignore": [3]},
    {"ignore": {"conv"}},
    {"ignore": 3},
    {"keep_outputs": ["conv", "next", "hidden"]},
    {"keep_inputs": ["head"], "keep_outputs": ["conv"]},
    {"calls": ["trunk"]},
    {"calls": "trunk"},
    {"calls": ["plain", "plain"]},
    {"calls": ["missing"]},
    {"calls": ["training"]},
    {"calls": [3]},
    {"calls": [_fails]},
    {"calls": [lambda model, inputs: None]},
    {"calls": [lambda: None]},
    {"latency_batch": 8},
    {"latency_batch": 64},
    {"seed": 1.5},
    {"seed": np.int64(3)},
    {"seed": torch.tensor(3)},
    {"images": np.int64(8), "round_to": np.int64(2), "min_channels": np.int64(1)},
    {"limits": {"conv": np.float64(0.5)}},
]
ARGUMENTS = [{field: value} for field in FIELDS for value in ODD] + SETS
