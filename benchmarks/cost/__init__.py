"""Seconds, memory and what they grow with."""
