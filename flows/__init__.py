"""Flows chain tasks."""
