"""Answers that are known, networks that must work, budgets that must be met."""
