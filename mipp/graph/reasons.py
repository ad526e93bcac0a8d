"""Why layers stay whole, in words, each with a category by which a summary can group them."""

from __future__ import annotations

from typing import Any, Literal, get_args

Category = Literal[
    "output",  # the network's output, whose channels mean something
    "mixed",  # an operation computes one value of all of its channels
    "unknown",  # an operation that mipp has no rule for
    "values",  # it meets values that cannot lose channels, such as constants or the input
    "kind",  # a layer reads or makes it of which mipp knows no surgery
    "order",  # it is read in another order at some places, or in groups that it does not fill
    "sizes",  # forward computes with a size that does not change with it
    "part",  # it takes some outputs of a layer whose others go elsewhere
    "uncalled",  # forward takes a layer's weights without calling it
    "calls",  # a layer of it runs for some inputs, or in other calls, only
    "shared",  # layers share their weights
    "unread",  # nothing reads it whose inputs could be chosen
    "single",  # there is one channel, or one head
    "unproven",  # a cut on random weights was not what zeroing is
]

MEETS = "joins it with values that cannot lose channels, such as constants or the input"


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
