"""Activations of layer pairs: captured in one forward pass, kept in a Zarr store."""

from mipp.activations.capture import Sampling, capture_rows
from mipp.activations.store import open_store, write_store

__all__ = ["Sampling", "capture_rows", "open_store", "write_store"]
