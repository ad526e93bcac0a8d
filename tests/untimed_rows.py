"""Rows of a sweep, as two runs of it are compared."""

TIMED = ("seconds", "latency", "peak_rss", "host", "commit", "versions")  # beginnings of columns


def untimed(row):
    """A row without what no two runs measure alike."""
    return {k: v for k, v in row.items() if not k.startswith(TIMED)}
