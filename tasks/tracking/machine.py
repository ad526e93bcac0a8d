"""Load of the machine while a run goes on: processor, memory, disk, network, NVIDIA cards."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from tasks.tracking.tracker import Tracker

SECONDS = 5  # between samples; a run that is over before has none


@contextmanager
def watched_machine(tracker: Tracker) -> Iterator[None]:
    """Metrics `system/...` every few seconds of the block, in a thread of their own.

    Cards show where `nvidia-ml-py` is installed.
    """
    if tracker.uri is None:
        yield
        return
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    logging.getLogger(SystemMetricsMonitor.__module__).setLevel(logging.WARNING)
    monitor = SystemMetricsMonitor(
        tracker.run_id, SECONDS, resume_logging=True, tracking_uri=tracker.uri
    )
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()
