"""A small residual network that is trained on the digits, far from linear."""

import copy
import functools

import torch
from sklearn.datasets import load_digits
from torch import nn


class Residual(nn.Module):
    """A stream with two blocks, and batch-norms, of digits."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.first, self.second = nn.Conv2d(12, 12, 3, padding=1), nn.Conv2d(12, 12, 3, padding=1)
        self.head = nn.Linear(12, 10)

    def forward(self, x):
        x = self.norm(self.stem(x)).relu()
        x = (x + self.first(x)).relu()
        x = (x + self.second(x)).relu()
        return self.head(x.mean((2, 3)))


@functools.cache
def all_digits():
    pixels, labels = load_digits(return_X_y=True)
    return torch.from_numpy(pixels).view(-1, 1, 8, 8) / 8 - 1, torch.from_numpy(labels)


def digits(n, seed=0):
    """Images (n, 1, 8, 8), in no order of class."""
    drawn = torch.randperm(1797, generator=torch.Generator().manual_seed(seed))
    return all_digits()[0][drawn[:n]]


@functools.cache
def trained():
    """A network that was trained a little, since one with random weights is all but linear."""
    torch.manual_seed(0)
    model, (images, labels) = Residual().double(), all_digits()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for batch in torch.randperm(1797).split(64) * 4:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()
    return model.eval()


def residual():
    """A network of the caller's own."""
    return copy.deepcopy(trained())
