"""The most memory that this process has held at once."""

from __future__ import annotations

import sys

try:
    import resource
except ImportError:  # no Unix
    resource = None  # type: ignore[assignment]


def peak_rss_mb() -> float:
    """Peak of the resident set so far, in MiB; not a number where the system does not say."""
    if resource is None:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)
