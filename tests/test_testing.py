"""The contract test of criteria finds what a criterion does wrong, and says so in words."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mipp.criteria import CRITERIA
from mipp.errors import ContractError
from mipp.inputs import count
from mipp.testing import check_criterion


def by_mean_output(given, measure):
    """A number of every group's units that grows with what `measure` gives."""
    with torch.no_grad():
        value = float(measure(given))
    return {n: np.arange(w) + value for n, w in given.graph.widths.items()}


def left_in_training(given):
    given.model.train()
    return CRITERIA["l1"](given)


def halving(given):
    with torch.no_grad():
        next(given.model.parameters()).mul_(0.5)
    return CRITERIA["l1"](given)


def leaving_gradients(given):
    for images, labels in given.batches():
        given.mean_loss(given.model.eval()(images), labels).backward()
    return CRITERIA["l1"](given)


def leaving_hooks(given):
    next(given.model.children()).register_forward_hook(lambda *args: None)
    return CRITERIA["l1"](given)


def thawing(given):
    given.model.requires_grad_(True)
    return CRITERIA["l1"](given)


def unseeded(given):
    return {n: np.random.default_rng().random(w) for n, w in given.graph.widths.items()}


def always_the_same_draw(given):
    return {n: np.random.default_rng(0).random(w) for n, w in given.graph.widths.items()}


def by_first_batch(given):
    return by_mean_output(given, lambda g: count(next(iter(g.inputs()))))


def by_mode(given):
    def loss(g):
        images, labels = next(iter(g.batches()))
        was = [m.training for m in g.model.modules()]
        buffers = {name: b.clone() for name, b in g.model.named_buffers()}
        found = F.cross_entropy(g.model(images), labels)
        for module, training in zip(g.model.modules(), was, strict=True):
            module.training = training
        for name, b in g.model.named_buffers():
            b.copy_(buffers[name])
        return found

    return by_mean_output(given, lambda g: 1000 * loss(g))


def taking_labels(given):
    return by_mean_output(given, lambda g: sum(labels.sum() for _, labels in g.batches()))


BROKEN = {
    "short": (
        lambda given: {n: np.arange(w - 1.0) for n, w in given.graph.widths.items()},
        "shape",
    ),
    "some groups": (lambda given: dict(list(CRITERIA["l1"](given).items())[1:]), "left out group"),
    "constant": (lambda given: {n: np.ones(w) for n, w in given.graph.widths.items()}, "no unit"),
    "nan": (lambda given: {n: np.full(w, np.nan) for n, w in given.graph.widths.items()}, "finite"),
    "left in training": (left_in_training, r"changes the network: the mode of module ''"),
    "changed weights": (halving, "changes the network: the values of 0.weight"),
    "gradients": (leaving_gradients, "changes the network: the (mode|gradient) of"),
    "hooks": (leaving_hooks, "changes the network: the hooks of module '0'"),
    "thawed": (thawing, "changes the network: the requires_grad of"),
    "unseeded": (unseeded, r"(?s)other scores a second time.*default_rng\(given\.seed\)"),
    "by the batch": (by_first_batch, "goes by the size of the batches, 16 or 24 images"),
    "by the mode": (by_mode, "goes by the mode of the network"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_criterion_is_found(case):
    criterion, match = BROKEN[case]
    with pytest.raises(ContractError, match=match) as broken:
        check_criterion(criterion)
    assert "on a chain of convolutions" in str(broken.value)
    assert isinstance(broken.value, AssertionError)


def test_criterion_that_says_it_needs_no_labels_must_not_ask_for_them():
    check_criterion(taking_labels)
    with pytest.raises(ContractError, match=r"(?s)asks for labels.*labels='needed'"):
        check_criterion(taking_labels, labels="unused")


def test_criterion_that_says_it_draws_must_go_by_the_seed():
    check_criterion(always_the_same_draw)
    with pytest.raises(ContractError, match=r"(?s)goes by no seed.*default_rng\(given\.seed\)"):
        check_criterion(always_the_same_draw, seeded="drawn")
