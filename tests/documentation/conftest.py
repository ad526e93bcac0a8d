"""What is written for readers runs apart from all else."""

import pytest
import torch

from mipp.criteria import CRITERIA
from mipp.data.load import DATA_SETS
from mipp.information import estimators
from mipp.information.estimators import ESTIMATORS
from mipp.layers import table
from mipp.models.table import MODELS


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A folder, a seed and registered names of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for rows in (CRITERIA, ESTIMATORS, MODELS, DATA_SETS):
        monkeypatch.setattr(rows, "_rows", dict(rows._rows))
    monkeypatch.setattr(estimators, "_NAMES", dict(estimators._NAMES))
    monkeypatch.setattr(table, "_adapters", {k: [*v] for k, v in table._adapters.items()})
    torch.manual_seed(0)
    yield
    table._adapters_of.cache_clear()
