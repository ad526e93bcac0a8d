"""Two pruned networks side by side: `side` reads one, `comparison` says what differs."""

from mipp.comparing.comparison import Comparison, compare

__all__ = ["Comparison", "compare"]
