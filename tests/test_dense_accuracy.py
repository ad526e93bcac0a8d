"""The dense network's accuracy: once for all points of a sweep, anew for another file or split."""

import os
from types import SimpleNamespace

import pytest
import torch

from mipp.stages import evaluate

CPU = torch.device("cpu")


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """A work directory with a dense network, and the networks that were run, in order."""
    (tmp_path / "train").mkdir()
    (tmp_path / "train/model.safetensors").write_bytes(b"weights")
    runs = []

    def accuracy(model, *_, **__):
        runs.append(model)
        return len(runs) / 10

    monkeypatch.setattr(evaluate, "accuracy", accuracy)
    monkeypatch.setattr(evaluate, "_DENSE_ACCURACY", {})
    return tmp_path, runs


def ask(workdir, split="one", batch_size=8):
    splits = SimpleNamespace(test=SimpleNamespace(fingerprint=split))
    return evaluate._dense_accuracy(workdir, SimpleNamespace(model="net"), splits, batch_size, CPU)


def test_second_point_takes_the_first_ones_number(measured):
    workdir, runs = measured
    assert [ask(workdir), ask(workdir)] == [0.1, 0.1]
    assert runs == ["net"]


def test_other_split_batch_or_file_is_measured_anew(measured):
    workdir, _ = measured
    file = workdir / "train/model.safetensors"
    found = [ask(workdir), ask(workdir, "other"), ask(workdir, batch_size=4)]
    os.utime(file, ns=(1, 1))
    assert [*found, ask(workdir)] == [0.1, 0.2, 0.3, 0.4]
