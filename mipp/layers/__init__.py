"""Kinds of layers: what they hold, how they are cut, and how they can be watched."""
