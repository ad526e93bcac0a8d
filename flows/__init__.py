"""Flows chain tasks."""

import os

os.environ.setdefault("DO_NOT_TRACK", "1")  # before prefect is imported
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
