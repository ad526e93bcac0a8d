"""Time as a budget: measured per width, predicted for a selection, and measured again."""

from mipp.latency.clock import Clock
from mipp.latency.within_time import TimeReport, require_time, within_time

__all__ = ["Clock", "TimeReport", "require_time", "within_time"]
