"""Model folding with REPAIR: clusters of filters become one each."""

import numpy as np
import torch

from benchmarks.rivals.folding import clusters, fold
from tests.benchmarks.rivals.small_rival import (
    convolutions,
    given_by,
    images_of,
    keeping,
    perceptron,
)


def twice(layer):
    """Make the second half of a layer's units copies of the first."""
    half = len(layer.weight) // 2
    with torch.no_grad():
        for tensor in (layer.weight, layer.bias):
            tensor[half:] = tensor[:half]


def test_copies_are_folded_without_any_change():
    given = given_by(perceptron)
    twice(given.model[0])
    wanted = given.model(images_of(given))
    pruned, selection = fold(given, keeping(given, _0=range(4)))
    assert selection.kept["0"].tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(pruned(images_of(given)), wanted)


def test_a_cluster_is_the_mean_of_its_filters_and_is_read_by_the_sum_of_their_weights():
    given = given_by(perceptron)
    first, reader = given.model[0], given.model[2]
    labels = clusters(first.weight.detach(), 3, seed=0)
    pruned, selection = fold(given, keeping(given, _0=range(3)))
    of = {int(labels[c]): i for i, c in enumerate(selection.kept["0"])}
    for label in range(3):
        own, at = np.flatnonzero(labels == label), of[label]
        torch.testing.assert_close(pruned[0].weight[at], first.weight[own].mean(0))
        torch.testing.assert_close(pruned[0].bias[at], first.bias[own].mean())
        torch.testing.assert_close(pruned[2].weight[:, at], reader.weight[:, own].sum(1))
    assert len(np.unique(labels)) == 3


def test_repair_takes_the_statistics_of_batch_norms_anew():
    given = given_by(convolutions)
    pruned, _ = fold(given, keeping(given, _0=range(3)))
    with torch.no_grad():  # the mean over batches, of 40 and 24 images
        batches = [pruned[:3](x).mean((0, 2, 3)) for x, _ in given.batches()]
    torch.testing.assert_close(pruned[3].running_mean, torch.stack(batches).mean(0))
