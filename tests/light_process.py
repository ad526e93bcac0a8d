"""Interpreters of tests that need a file or two of mipp, not torch, whose import takes seconds."""

from pathlib import Path

LIGHT = f"""
import sys, types
sys.modules["mipp"] = types.ModuleType("mipp")  # whose own imports are left out
sys.modules["mipp"].__path__ = [{str(Path(__file__).parents[1] / "mipp")!r}]
"""
