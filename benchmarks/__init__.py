"""Measurements of cost and accuracy; each script prints a table and how it came about."""
