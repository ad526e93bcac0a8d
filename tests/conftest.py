"""Seeds and threads of every test, and what makes many tests cheaper."""

import gc

import pytest
import torch

SEEDS = range(5)


def pytest_addoption(parser):
    parser.addoption(
        "--seeds", choices=("one", "all"), default="one", help="seeds that each seeded test runs on"
    )


def pytest_configure():
    torch.set_num_threads(1)  # processes share the cores, so threads would only wait


def pytest_collection_finish():
    gc.freeze()  # what collection left lives to the end: no need to walk it again and again
    gc.set_threshold(10_000)  # ... nor all else at every 700th object


def pytest_generate_tests(metafunc):
    if "seed" in metafunc.fixturenames:
        every = metafunc.config.getoption("--seeds") == "all"
        metafunc.parametrize("seed", SEEDS if every else SEEDS[:1])


@pytest.fixture(scope="module")
def few_figures():
    """Reports of runs whose pictures no test looks at; those of tests/report have them all."""
    from mipp.report import figures

    few = {name: figures.FIGURES[name] for name in ("cost", "pixels")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "FIGURES", few)
        yield
