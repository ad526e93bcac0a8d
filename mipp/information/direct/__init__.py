"""Estimators that measure I(x; y) from rows alone: eliminations measure again without a channel.

Each file has one way to measure, with its source and where it is blind.
"""
