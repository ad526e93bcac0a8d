"""The weights of an ablation change the choices made with them, and none after these."""

import torch
from torch import nn

import mipp
from benchmarks.ablations.weighting import counted


def test_a_group_that_counts_for_more_keeps_more_of_its_channels():
    torch.manual_seed(0)
    convolutions = nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU()
    model = nn.Sequential(*convolutions, nn.Conv2d(16, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 5))
    pruner = mipp.Pruner(model, torch.randn(128, 3, 12, 12))
    plain = widths(pruner)
    with counted({"0": 1.0, "2": 4.0, "4": 1.0}):
        weighed = widths(pruner)
    assert weighed["2"] > plain["2"]
    assert weighed["0"] < plain["0"]
    assert widths(pruner) == plain


def widths(pruner):
    kept = pruner.plan("macs:0.4").selection.kept
    return {group: len(channels) for group, channels in kept.items()}
