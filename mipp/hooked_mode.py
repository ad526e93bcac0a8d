"""Modes over torch's functions or operators that see modules too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self


class Hooked:
    """Beside a mode of torch, which comes after it among the bases: hooks of modules within."""

    def __init__(self) -> None:
        super().__init__()
        self._handles: list[Any] = []

    def hooks(self) -> Iterator[Any]:
        """Registers hooks and yields the handle of each."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._handles.extend(self.hooks())
        super().__enter__()  # type: ignore[misc]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[misc]
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
