"""`mipp prune`: stage `prune` of a work directory."""

from mipp.commands.stage import configure, run

__all__ = ["configure", "run"]
