"""The LeNets of the pruning literature (LeCun et al. 1998; Caffe's LeNet-5), with ReLU."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from mipp.errors import ModelError


def lenet_300_100(classes: int, channels: int, size: int) -> nn.Module:
    """LeNet-300-100: 266,610 parameters on 28x28 grey images with 10 classes."""
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc1=nn.Linear(channels * size * size, 300),
            relu1=nn.ReLU(),
            fc2=nn.Linear(300, 100),
            relu2=nn.ReLU(),
            fc3=nn.Linear(100, classes),
        )
    )


def lenet5(classes: int, channels: int, size: int) -> nn.Module:
    """LeNet-5 with max pooling: 400 flat features at 28x28."""
    edge = (size // 2 - 4) // 2
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 6, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(6, 16, 5),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(_flat_features("lenet5", 16, edge, size, smallest=12), 120),
            relu3=nn.ReLU(),
            fc2=nn.Linear(120, 84),
            relu4=nn.ReLU(),
            fc3=nn.Linear(84, classes),
        )
    )


def lenet5_caffe(classes: int, channels: int, size: int) -> nn.Module:
    """Caffe's LeNet-5, wider and with two linear layers: 800 flat features at 28x28."""
    edge = ((size - 4) // 2 - 4) // 2
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 20, 5),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(20, 50, 5),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(_flat_features("lenet5-caffe", 50, edge, size, smallest=16), 500),
            relu3=nn.ReLU(),
            fc2=nn.Linear(500, classes),
        )
    )


def _flat_features(name: str, channels: int, edge: int, size: int, *, smallest: int) -> int:
    if edge < 1:
        raise ModelError(
            f"model {name!r} does not fit its input.\n"
            f"Expected images of at least {smallest} pixels, got {size}.\n"
            f"Set data.size={smallest} or more."
        )
    return channels * edge * edge
