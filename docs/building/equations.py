"""Equations of pages as MathML, which browsers draw themselves: no script, no foreign font."""

from __future__ import annotations

from typing import Any

from latex2mathml.converter import convert


def fence(source: str, *_: Any, **__: Any) -> str:
    """A fenced block in LaTeX as a block of MathML; the form of a superfence's formatter."""
    return f'<div class="math">{convert(source, display="block")}</div>'
