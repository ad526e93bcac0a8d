"""Calibration that somebody might pass, sound and unsound, for networks of three channels."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

GENERATOR = torch.Generator().manual_seed(4)
X = torch.randn(48, 3, 6, 6, generator=GENERATOR)
Y = torch.randint(4, (48,), generator=GENERATOR)


class Failing:
    """Gives some batches, then fails."""

    def __init__(self, batches, error):
        self.batches, self.error = batches, error

    def __iter__(self):
        for _ in range(self.batches):
            yield X[:16], Y[:16]
        raise self.error


class Other:
    """Gives something else on every pass."""

    passes = 0

    def __iter__(self):
        self.passes += 1
        yield X[: 16 * self.passes] * self.passes, Y[: 16 * self.passes]


class Stream(IterableDataset):
    def __iter__(self):
        yield from X


class OnlyItems:
    """The old protocol of sequences, which ends at an IndexError."""

    def __getitem__(self, index):
        return X.split(16)[index], Y.split(16)[index]


class NoIteration:
    def __iter__(self):
        return 3


def _images(change):
    return lambda: [(change(x), y) for x, y in zip(X.split(16), Y.split(16), strict=True)]


def _labels(change):
    return lambda: [(x, change(y)) for x, y in zip(X.split(16), Y.split(16), strict=True)]


def _one_value(value):
    def change(x):
        x = x.clone()
        x[0, 0, 0, 0] = value
        return x

    return change


BATCHES = {
    "sound": _images(lambda x: x),
    "no labels": lambda: [X],
    # sizes and ranks
    "one image": lambda: [(X[:1], Y[:1])],
    "two images": lambda: [(X[:2], Y[:2])],
    "single images": lambda: list(X),
    "batches of one": lambda: list(zip(X.split(1), Y.split(1), strict=True)),
    "empty": lambda: [(X[:0], Y[:0])],
    "endless empty": lambda: itertools.repeat((X[:0], Y[:0])),
    "nothing": list,
    "empty item": lambda: [()],
    "empty mapping": lambda: [{}],
    "ragged": lambda: [(X[:7], Y[:7]), (X[7:8], Y[7:8]), (X[8:], Y[8:])],
    "other sizes later": lambda: [(X[:16], Y[:16]), (X[:16, :, :5, :5], Y[:16])],
    "other channels later": lambda: [(X[:16], Y[:16]), (X[:16, :2], Y[:16])],
    "other kind later": lambda: [(X[:16], Y[:16]), (X[:16].double(), Y[:16])],
    "other items later": lambda: [X[:16], (X[:16], Y[:16]), "end"],
    "None later": lambda: [(X[:16], Y[:16]), None],
    "labels end": lambda: [(X[:16], Y[:16]), X[16:]],
    "no axes": lambda: [torch.tensor(1.0)],
    "flat": lambda: [(X.flatten(1), Y)],
    "one axis more": lambda: [(X[:, None], Y)],
    "too small": lambda: [(X[..., :2, :2], Y)],
    "no rows": lambda: [(X[..., :0, :], Y)],
    "no channels": lambda: [(X[:, :0], Y)],
    "one row": lambda: [(X[..., :1, :], Y)],
    # types and places
    "double": _images(torch.Tensor.double),
    "half": _images(torch.Tensor.half),
    "bytes": _images(torch.Tensor.byte),
    "boolean": _images(torch.Tensor.bool),
    "complex": _images(lambda x: x.to(torch.complex64)),
    "sparse": _images(torch.Tensor.to_sparse),
    "meta": _images(lambda x: x.to("meta")),
    "numpy": lambda: [(X.numpy(), Y.numpy())],
    "quantised": _images(lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)),
    "with gradients": _images(lambda x: x.clone().requires_grad_() * 1),
    "not contiguous": _images(lambda x: x.movedim(1, -1).contiguous().movedim(-1, 1)),
    "expanded": _images(lambda x: x[:1].expand(16, 3, 6, 6)),
    "negative strides": lambda: [torch.as_tensor(np.ascontiguousarray(X.numpy()[::-1]))],
    # values
    "NaN": _images(_one_value(torch.nan)),
    "infinity": _images(_one_value(-torch.inf)),
    "NaN later": lambda: [(X[:16], Y[:16]), (X[16:] * torch.nan, Y[16:])],
    "zero": _images(torch.zeros_like),
    "all the same": _images(lambda x: x[:1].repeat(16, 1, 1, 1)),
    "ones": _images(torch.ones_like),
    "huge": _images(lambda x: x * 1e30),
    "largest": _images(lambda x: x.sign() * 3e38),
    "tiny": _images(lambda x: x * 1e-40),
    "one pixel": _images(lambda x: x * (torch.arange(36).view(6, 6) == 7)),
    # labels
    "one class": _labels(torch.zeros_like),
    "sorted": lambda: [(X.repeat(2, 1, 1, 1), Y.repeat(2).sort().values)],
    "labels of another length": lambda: [(X, Y[:9])],
    "scalar labels": lambda: [(X, torch.tensor(3))],
    "labels of -1": _labels(lambda y: y * 0 - 1),
    "too many classes": _labels(lambda y: y + 3),
    "float labels": _labels(torch.Tensor.float),
    "NaN labels": _labels(lambda y: y * torch.nan),
    "one-hot labels": _labels(lambda y: torch.nn.functional.one_hot(y, 4).float()),
    "labels with an axis": _labels(lambda y: y[:, None]),
    "boolean labels": _labels(torch.Tensor.bool),
    "int32 labels": _labels(torch.Tensor.int),
    "text labels": _labels(lambda y: [str(n) for n in y]),
    "labels of None": _labels(lambda y: None),
    "dict labels": _labels(lambda y: {"class": y}),
    # loaders
    "a loader": lambda: DataLoader(TensorDataset(X, Y), 16),
    "a tensor": lambda: X,
    "a data set": lambda: TensorDataset(X, Y),
    "a stream": Stream,
    "endless": lambda: itertools.repeat((X[:16], Y[:16])),
    "only items": OnlyItems,
    "a generator": lambda: (pair for pair in zip(X.split(16), Y.split(16), strict=True)),
    "used up": lambda: iter(()),
    "changes": Other,
    "fails at once": lambda: Failing(0, OSError("no such disk")),
    "fails later": lambda: Failing(1, OSError("no such disk")),
    "fails without words": lambda: Failing(1, ValueError()),
    "fails an assertion": lambda: Failing(1, AssertionError()),
    "no iteration": NoIteration,
    "None": lambda: None,
    "a number": lambda: 7,
    "text": lambda: "imagenet",
    "bytes of a file": lambda: b"imagenet",
    "a class": lambda: DataLoader,
    "a function": lambda: lambda: [X],
    "a mapping": lambda: {"x": X},
    "a set": lambda: {X},
    # items
    "keywords": lambda: [{"x": X}],
    "other keywords": lambda: [{"image": X, "label": Y}],
    "keys that are numbers": lambda: [{0: X}],
    "keywords and labels": lambda: [({"x": X}, Y)],
    "tuple of one": lambda: [((X,), Y)],
    "two inputs": lambda: [((X, X), Y)],
    "None in": lambda: [None],
    "list of None": lambda: [(None, Y)],
    "text in": lambda: ["cat.png"],
    "lists of numbers": lambda: [[[1.0, 2.0, 3.0]]],
    "nested": lambda: [((X, (X, X)), Y)],
    "mixed": lambda: [(X, Y, "names", {"more": 1})],
    "list of batches": lambda: list(X.split(16)),
    "an exception": lambda: [ValueError("no")],
}
