"""A mode over torch's functions that sees modules too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

from torch.overrides import TorchFunctionMode


class HookedMode(TorchFunctionMode):
    """A context in which hooks of modules are there, and functions of torch go through it."""

    def __init__(self) -> None:
        super().__init__()
        self._handles: list[Any] = []

    def hooks(self) -> Iterator[Any]:
        """Registers hooks and yields the handle of each."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._handles.extend(self.hooks())
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
