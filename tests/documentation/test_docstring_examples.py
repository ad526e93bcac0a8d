"""Every public name has an example, and every example of every module comes out as written."""

import doctest
import importlib
from typing import get_args

import pytest

import mipp
from tests.documented import ROOT

SOURCES = sorted(path for path in (ROOT / "mipp").rglob("*.py") if ">>>" in path.read_text())
MODULES = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in SOURCES]


@pytest.mark.parametrize("module", MODULES)
def test_examples_of_a_module_run(module):
    failed, tried = doctest.testmod(importlib.import_module(module.removesuffix(".__init__")))
    assert failed == 0
    assert tried > 0


@pytest.mark.parametrize("name", mipp.__all__)
def test_public_name_has_an_example_that_is_run(name):
    thing = getattr(mipp, name)
    for part in get_args(thing) or (thing,):  # a union has those of its members
        examples = doctest.DocTestParser().get_examples(part.__doc__)
        assert [e for e in examples if doctest.SKIP not in e.options]
        assert part.__module__ in {module.removesuffix(".__init__") for module in MODULES}
