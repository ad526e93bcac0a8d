"""The calls that a network was pruned with, as a text that goes into a file and back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mipp.errors import CheckpointError
from mipp.inputs import Call
from mipp.names import Table, address_of

KEY = "calls"  # of a selection's provenance


def _require_call(thing: Any) -> None:
    if not callable(thing):
        raise TypeError(f"expected a function of (model, inputs), got a {type(thing).__name__}")


_CALLS: Table[Callable[..., Any]] = Table("call", "calls", CheckpointError, _require_call, {})


def written_calls(calls: Sequence[Call]) -> str:
    """Names of methods, and addresses of functions; in brackets what no address brings back.

    >>> written_calls(["project", lambda model, x: model(x)])
    'project, (mipp.checkpoint.calls:<lambda>)'
    """
    return ", ".join(one if isinstance(one, str) else _written(one) for one in calls)


def _written(function: Callable[..., Any]) -> str:
    address = address_of(function)
    module, _, path = address.partition(":")
    thing: Any = sys.modules.get(module)
    for part in path.split("."):
        thing = getattr(thing, part, None)
    return address if thing is function else f"({address})"


def require_no_standard_library(address: str, path: Path) -> None:
    """Refuse `os:abort` and the like, which a checkpoint of somebody else's may name.

    Raises
    ------
    CheckpointError : the module is one of Python's own.
    """
    module = address.lstrip("(").partition(":")[0].partition(".")[0]
    if ":" in address and module in (sys.stdlib_module_names - {"__main__"}):
        raise CheckpointError(
            f"checkpoint {path} names code of Python's own.\nExpected a network or function of "
            f"yours, as package.module:attribute, got {address!r}; do not use the file, or pass "
            "build= and calls= of your own."
        )


def read_calls(text: str, path: Path) -> tuple[Call, ...]:
    """The calls of such a text, for the checkpoint of that path.

    Raises
    ------
    CheckpointError : a function cannot be found here; names all that are needed.
    """
    names = text.split(", ") if text else []
    for name in names:
        require_no_standard_library(name, path)
    missing = [name for name in names if name.startswith("(")]
    if missing:
        raise CheckpointError(
            f"checkpoint {path} was pruned with calls=[{text}], of which no name brings back "
            f"{', '.join(missing)}.\nExpected all of them, got names alone; pass "
            "load_checkpoint(path, calls=[...]) the same calls, or define the function at the top "
            "of a module before pruning."
        )
    return tuple(_CALLS.resolve(name) if ":" in name else name for name in names)
