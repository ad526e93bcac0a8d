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


def pytest_collection_finish(session):
    _require_groups(session)
    gc.freeze()  # what collection left lives to the end: no need to walk it again and again
    gc.set_threshold(10_000)  # ... nor all else at every 700th object


def _require_groups(session):
    """One process of several makes what a group of tests needs; see the bound of pytest."""
    grouped = (item for item in session.items if item.get_closest_marker("xdist_group"))
    item = next(grouped, None)
    asked = getattr(session.config.option, "loadgroup", False)
    if asked and item is not None and "@" not in item.nodeid:
        raise pytest.UsageError(
            f"pytest {pytest.__version__} ignores xdist_group: use one below 9.2"
        )


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
