"""Mutual information preserving pruning."""
