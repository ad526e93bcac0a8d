"""Time as a budget: measured per width, predicted for a selection, and measured again.

clock        measures: modules at several widths, whole networks in turns
widths       a module at another width, and what it is called with
within_time  the selection whose time comes nearest, each tried, timed and corrected
"""

from mipp.latency.clock import Clock
from mipp.latency.within_time import TimeReport, require_time, within_time

__all__ = ["Clock", "TimeReport", "require_time", "within_time"]
