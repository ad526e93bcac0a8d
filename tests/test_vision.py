"""The wall around torchvision: it imports, and working operators are left alone."""

import importlib
import subprocess
import sys
from types import ModuleType

import pytest

from mipp import vision


def test_torchvision_imports_in_a_fresh_interpreter_without_warnings():
    code = "from mipp.vision import torchvision; print(torchvision.models.list_models()[0])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True)
    assert done.stdout.decode().strip() == "alexnet", done.stderr.decode()


def test_exposed_module_is_the_imported_one():
    assert vision.torchvision is sys.modules["torchvision"]


def test_operators_that_load_are_not_declared_again(monkeypatch):
    whole = ModuleType("torchvision")
    monkeypatch.setattr(importlib, "import_module", lambda name: whole)
    monkeypatch.setattr(vision, "_declare_operators", lambda: pytest.fail("declared"))
    assert vision.import_torchvision() is whole


def test_missing_operators_are_declared_once_and_import_is_tried_again(monkeypatch):
    whole, calls = ModuleType("torchvision"), []

    def second_time_lucky(name):
        calls.append("import")
        if len(calls) == 1:
            raise RuntimeError("operator torchvision::nms does not exist")
        return whole

    monkeypatch.setattr(importlib, "import_module", second_time_lucky)
    monkeypatch.setattr(vision, "_declare_operators", lambda: calls.append("declare"))
    assert vision.import_torchvision() is whole
    assert calls == ["import", "declare", "import"]


def test_other_import_failures_are_not_hidden(monkeypatch):
    def fails(name):
        raise RuntimeError("driver too old")

    monkeypatch.setattr(importlib, "import_module", fails)
    with pytest.raises(RuntimeError, match="driver too old"):
        vision.import_torchvision()
