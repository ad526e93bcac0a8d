"""What torch does by a caller's `with`, and is not to do to measurements."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


@contextmanager
def undisturbed() -> Iterator[None]:
    """Gradients as usual, every operator in the type of its tensors, and nothing compiled.

    Whoever prunes within `torch.no_grad()`, `torch.inference_mode()` or `torch.autocast(...)` gets
    what they get outside; and a network of which parts went through `torch.compile` runs as it is
    written, since hooks and modes that watch it are not for compiled code.

    Example
    -------
    >>> with torch.inference_mode(), undisturbed():
    ...     torch.zeros(2).is_inference(), torch.is_grad_enabled()
    (False, True)
    """
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
        _as_written(),
    ):
        yield


def _as_written() -> AbstractContextManager[object]:
    """Nothing is compiled; where nothing was, the compiler is not imported, which takes seconds."""
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    eager: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return eager
