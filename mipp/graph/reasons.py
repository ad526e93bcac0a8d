"""Why layers stay whole, in words, each with a category by which a summary can group them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

Category = Literal[
    "output",
    "mixed",
    "unknown",
    "values",
    "kind",
    "order",
    "sizes",
    "part",
    "uncalled",
    "calls",
    "shared",
    "unread",
    "single",
    "unproven",
]

ONE_OF_ALL = "computes values of all of its channels at once"
MEETS = "joins it with values that cannot lose channels, such as constants or the input"


class Meaning(NamedTuple):
    """What a category says of the channels of a layer, and what to do about it."""

    what: str
    advice: str


CATEGORIES: Mapping[Category, Meaning] = {
    "output": Meaning(
        "the network returns their channels",
        "if it returns more than its answer, such as features, wrap it to return that only",
    ),
    "mixed": Meaning(
        "an operation computes one value of several of their channels",
        "put a linear or 1x1 conv layer before that operation: what it reads can then be pruned",
    ),
    "unknown": Meaning(
        "an operation reads them that mipp has no rule for",
        "write it with common operators of torch, or describe its module: mipp.register_layer",
    ),
    "values": Meaning(
        "they meet values that cannot lose channels, such as constants or the input",
        "register such a constant as a buffer or parameter, or read the input by a 1x1 conv first",
    ),
    "kind": Meaning(
        "a layer reads or makes them of a kind that cannot be cut there",
        "describe that kind, see mipp.register_layer",
    ),
    "order": Meaning(
        "a layer reads them in another order at some places, or in groups that they do not fill",
        "shuffle or flatten them after the layer that reads them, not before",
    ),
    "sizes": Meaning(
        "forward computes with their number, which is written in the code",
        "let forward take it from the tensor, as x.shape[1] or -1",
    ),
    "part": Meaning(
        "they are a part of a layer's channels, and the others go another way",
        "make parts that go different ways by layers of their own, or of equal size",
    ),
    "uncalled": Meaning(
        "forward takes a layer's weights without calling the layer",
        "call the layer instead: self.layer(x)",
    ),
    "calls": Meaning(
        "a layer of theirs does not run in every forward pass",
        "prune the part that always runs, or pass calls=[...] with the calls that run the others",
    ),
    "shared": Meaning(
        "layers share their weights",
        "call one layer several times, or give each layer weights of its own",
    ),
    "unread": Meaning(
        "no layer reads them that would get smaller",
        "nothing, unless a layer of a kind of yours reads them: mipp.register_layer",
    ),
    "single": Meaning("there is a single channel or head", "nothing: it is the last one"),
    "unproven": Meaning(
        "a cut that was tried on random weights changed what the network computes",
        "nothing is wrong with the network; report it to mipp's authors, with its forward",
    ),
}


class Reason(str):
    """A text that knows its category.

    >>> Reason("single", "it has a single channel").category
    'single'
    """

    category: Category

    def __new__(cls, category: Category, text: str) -> Reason:
        assert category in get_args(Category)
        reason = super().__new__(cls, text)
        reason.category = category
        return reason

    def __getnewargs__(self) -> Any:
        return self.category, str(self)
