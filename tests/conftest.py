"""Seeds and threads of every test."""

import torch

SEEDS = range(5)


def pytest_addoption(parser):
    parser.addoption(
        "--seeds", choices=("one", "all"), default="one", help="seeds that each seeded test runs on"
    )


def pytest_configure():
    torch.set_num_threads(1)  # processes share the cores, so threads would only wait


def pytest_generate_tests(metafunc):
    if "seed" in metafunc.fixturenames:
        every = metafunc.config.getoption("--seeds") == "all"
        metafunc.parametrize("seed", SEEDS if every else SEEDS[:1])
