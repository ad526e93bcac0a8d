"""One setting changed at a time."""
