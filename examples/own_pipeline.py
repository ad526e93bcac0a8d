"""A network and images of your own through all eight stages, with the report as a page.

python examples/own_pipeline.py
"""

import sys

import torch
from torch import nn

from mipp.cli import main as mipp

CLASSES, SIZE = 4, 12


class Net(nn.Module):
    """Called with what it names of `classes`, `channels` and `size`."""

    def __init__(self, classes, channels=1, size=SIZE):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
        )
        self.head = nn.Linear(64, classes)

    def forward(self, x):
        return self.head(self.features(x).flatten(1))


def gratings():
    """(train, test): stripes of four directions under noise, each an (image, label)."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    waves = [rows, columns, rows + columns, rows - columns]

    def images(number):
        for n in range(number):
            noise = torch.rand(SIZE, SIZE, generator=generator)
            yield (0.5 * noise + 0.5 * (waves[n % CLASSES] % 4 < 2).float()), n % CLASSES

    return list(images(512)), list(images(256))


SETTINGS = (
    "model.name=own_pipeline:Net",
    "data.name=own_pipeline:gratings",
    "data.calibration=128",
    "choose.budget=macs:0.4",
    "train.epochs=2",
    "finetune.epochs=1",
    "evaluate.latency_repeats=3",
    "tracking.uri=null",
)


if __name__ == "__main__":
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    sys.exit(mipp(["run", "--workdir", "own", *settings]))
