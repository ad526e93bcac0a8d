"""Activations of layer pairs: captured in one forward pass, kept in a Zarr store."""

from mipp.activations.capture import Sampling, capture_rows, stream_rows
from mipp.activations.store import open_store, write_store
from mipp.activations.whole import capture_whole

__all__ = ["Sampling", "capture_rows", "capture_whole", "open_store", "stream_rows", "write_store"]
