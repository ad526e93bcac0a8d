"""Means and products of what each hidden channel carries, over all its places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.shared.maps import maps_by_group
from mipp.inputs import count


@dataclass
class ChannelMoments:
    """Sums of one group in float64: `total` (channels,), `products` (channels, channels)."""

    n: int  # images times places
    total: Tensor
    products: Tensor

    @property
    def mean(self) -> Tensor:
        return self.total / self.n

    @property
    def second(self) -> Tensor:
        """Mean products about zero."""
        return self.products / self.n

    @property
    def covariance(self) -> Tensor:
        return self.second - torch.outer(self.mean, self.mean)


def channel_moments(given: CriterionInput) -> Mapping[str, ChannelMoments]:
    """Moments of every group in the dense network, as the layers that read it see it.

    Every place of a map is an observation, and so is every feature that makes one channel.
    """
    images = sum(count(inputs) for inputs in given.inputs())
    found: dict[str, ChannelMoments] = {}
    for name, maps in maps_by_group(given, images):
        rows = maps.transpose(0, 1).flatten(1).double()  # (n, channels, ...) -> (channels, all)
        one = found.setdefault(
            name, ChannelMoments(0, rows.new_zeros(len(rows)), rows.new_zeros(len(rows), len(rows)))
        )
        one.n += rows.shape[1]
        one.total += rows.sum(1)
        one.products += rows @ rows.T
    return found
