"""NaN, infinity, dead layers, too little data: mipp is right or refuses in words, never a crash."""

import math

import pytest
import torch
from torch import nn

import mipp
from mipp.criteria import CRITERIA
from mipp.errors import (
    ActivationError,
    DataError,
    MippError,
    ModelError,
    SingularCovarianceError,
)

# Of every kind: magnitudes, slopes, activations, data-free, and ours; others take many passes.
QUICK = ["mipp", "l1", "taylor", "snip", "hrank", "thinet", "synflow"]
METHODS = {"quick": QUICK, "slow": sorted(set(CRITERIA) - set(QUICK))}
REPAIRS = ["refit", "recalibrate", "none"]


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(16, 3),
    ).eval()  # fmt: skip


def batch(images=16):
    torch.manual_seed(1)
    return torch.randn(images, 3, 6, 6), torch.arange(images) % 3


def weights(name, value, place=...):
    def spoil(model, images):
        with torch.no_grad():
            model.state_dict()[name][place] = value
        return images

    return spoil


def scaled(name, factor):
    def spoil(model, images):
        with torch.no_grad():
            model.state_dict()[name].mul_(factor)
        return images

    return spoil


def overflowing(model, images):
    with torch.no_grad():
        model[0].weight.mul_(1e38)
    return images * 100


def inputs(change):
    return lambda model, images: change(images)


def in_half(model, images):
    model.half()
    with torch.no_grad():
        model[0].weight.mul_(1000)
        model[3].weight.mul_(1000)
    return images.half()


REFUSED = {
    "NaN in a weight": (weights("3.weight", math.nan, 0), ModelError),
    "infinity in a weight": (weights("0.weight", math.inf, (1, 2)), ModelError),
    "minus infinity in a bias": (weights("6.bias", -math.inf, 0), ModelError),
    "NaN in a statistic": (weights("1.running_var", math.nan, 2), ModelError),
    "NaN in an input": (inputs(lambda x: x.index_fill(0, torch.tensor(5), math.nan)), DataError),
    "infinity in an input": (
        inputs(lambda x: x.index_fill(0, torch.tensor(9), math.inf)),
        DataError,
    ),
    "overflow": (overflowing, ActivationError),
    "overflow in half precision": (in_half, ActivationError),
    "negative variance": (weights("1.running_var", -1.0, 2), ActivationError),
}
BORNE = {
    "dead layer": weights("3.weight", 0.0),
    "dead network": scaled("0.weight", 0.0),
    "silent ReLUs": weights("3.bias", -1e3),
    "all-zero inputs": inputs(torch.zeros_like),
    "constant inputs": inputs(torch.ones_like),
    "one image": inputs(lambda x: x[:1]),
    "few rows": inputs(lambda x: x[:2]),
    "large weights": scaled("3.weight", 1e15),
    "huge weights": scaled("3.weight", 1e30),
    "huge inputs": inputs(lambda x: x * 1e30),
    "tiny inputs": inputs(lambda x: x * 1e-30),
    "tiny weights": scaled("3.weight", 1e-38),
    "one huge channel": weights("0.weight", 1e20, 0),
    "no variance": weights("1.running_var", 0.0),
}


def prune(spoil, method, repair):
    model = network()
    images, labels = batch()
    images = spoil(model, images)
    data = [(images, labels[: len(images)])]
    return images, mipp.prune(model, data, "ratio:0.5", method=method, repair=repair)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_number_is_found_first_and_named(name):
    spoil, kind = REFUSED[name]
    texts = set()
    for method in ["mipp", *CRITERIA]:
        for repair in REPAIRS if method == "mipp" else REPAIRS[:1]:
            with pytest.raises(
                kind, match=r"(?s)NaN or infinity.*got \d+ others in \d+"
            ) as refused:
                prune(spoil, method, repair)
            texts.add(str(refused.value))
    assert len(texts) == 1  # whoever asks


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("NaN in a weight", r"weight of module '3' holds.*got 54 others in 216"),
        ("infinity in a weight", r"weight of module '0' holds.*got 9 others in 162"),
        ("NaN in a statistic", r"running_var of module '1' holds.*got 1 others in 6"),
        ("NaN in an input", r"batch 0 holds.*got 108 others in 1728"),
        ("overflow", r"layer '0' \(Conv2d\) is the first.*torch.float32"),
        ("negative variance", r"layer '1' \(BatchNorm2d\) is the first"),
        ("overflow in half precision", r"torch.float16"),
    ],
)
def test_place_and_number_are_told(name, where):
    with pytest.raises(REFUSED[name][1], match=f"(?s){where}"):
        prune(REFUSED[name][0], "mipp", "refit")


def test_batch_is_named_by_its_number():
    images, labels = batch()
    images[12] = math.nan
    data = list(zip(images.split(5), labels.split(5), strict=True))
    with pytest.raises(DataError, match="batch 2 holds"):
        mipp.prune(network(), data, "ratio:0.5")


def test_mask_of_infinities_is_no_defect():
    model, (images, labels) = network(), batch()
    model.register_buffer("mask", torch.full((4, 4), -math.inf).triu(1))
    assert mipp.prune(model, [(images, labels)], "ratio:0.5").model(images).isfinite().all()


def outcome(spoil, method, repair):
    """What comes of it: the refusal, or whether the pruned network's outputs are finite."""
    try:
        images, found = prune(spoil, method, repair)
    except MippError as refused:
        return refused
    with torch.no_grad():
        return bool(found.model(images).isfinite().all())


@pytest.mark.parametrize("kind", ["quick", pytest.param("slow", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", BORNE)
def test_odd_numbers_are_borne_or_refused_in_words(name, kind):
    for method in METHODS[kind]:
        for repair in REPAIRS if method in ("mipp", "l1") else REPAIRS[:1]:
            found = outcome(BORNE[name], method, repair)
            assert found is True or len(str(found).splitlines()) > 1, (method, repair, found)
            assert not isinstance(found, SingularCovarianceError)


@pytest.mark.parametrize("method", ["mipp", "l1"])
@pytest.mark.parametrize("name", ["huge weights", "one huge channel"])
def test_numbers_whose_squares_overflow_are_told_as_such(name, method):
    found = outcome(BORNE[name], method, "refit")
    assert isinstance(found, ActivationError)
    assert "too large for their squares" in str(found)
    assert "ridge" not in str(found)
