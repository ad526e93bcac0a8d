"""What torch does by a caller's `with`, and is not to do to measurements."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def undisturbed() -> Iterator[None]:
    """Gradients as usual, and every operator in the type of its tensors.

    Whoever prunes within `torch.no_grad()`, `torch.inference_mode()` or `torch.autocast(...)` gets
    what they get outside.

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
    ):
        yield
