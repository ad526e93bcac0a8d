"""Hooks of modules for a while, alone and beside modes over torch's functions or operators."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Self


@contextmanager
def hooked(handles: Iterable[Any]) -> Iterator[None]:
    """Within the block there are these hooks, each registered as its handle is asked for.

    Parameters
    ----------
    handles : of the hooks; lazy, so that a failure among them leaves none behind.

    Example
    -------
    >>> from torch import nn
    >>> net = nn.Sequential(nn.ReLU())
    >>> with hooked(module.register_forward_hook(print) for module in net):
    ...     len(net[0]._forward_hooks)
    1
    >>> len(net[0]._forward_hooks)
    0
    """
    with ExitStack() as registered:
        for handle in handles:
            registered.callback(handle.remove)
        yield


class Hooked:
    """Beside a mode of torch, which comes after it among the bases: hooks of modules within."""

    def __init__(self) -> None:
        super().__init__()
        self._registered = ExitStack()

    def hooks(self) -> Iterator[Any]:
        """Registers hooks and yields the handle of each."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        with ExitStack() as entered:
            entered.enter_context(hooked(self.hooks()))
            super().__enter__()  # type: ignore[misc]
            self._registered = entered.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        with self._registered:
            super().__exit__(*error)  # type: ignore[misc]
