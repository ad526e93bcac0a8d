"""Thin tasks: load, one call into mipp, save."""
