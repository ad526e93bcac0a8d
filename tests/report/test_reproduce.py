"""The command on the page gives back the parameters of the run."""

import shlex

import pytest

from mipp.config import dump_params, load_params
from mipp.report.reproduce import command, overrides
from mipp.report.run import read_run

CHANGES = [
    "seed=7",
    "data.name=yes",
    "model.weights=/data/my images",
    "data.root=null",
    "model.weights='12'",
    "model.weights=größe: \U0001f600 #1",
    "data.size=32",
    "data.mean=[0.5, 0.25]",
    "prune.recalibrate=false",
    "train.lr=0.00001",
    "evaluate.export=[torch, onnx]",
    "choose.budget=nats:0.01",
    "choose.method=l1",
    "prune.refit=false",
]


def params_of(changes):
    return dump_params(load_params(overrides=changes))


def test_defaults_need_no_override():
    assert overrides(params_of([])) == []


@pytest.mark.parametrize("change", CHANGES)
def test_override_reads_back_equal(change):
    key, _, value = change.partition("=")
    quoted = f'{key}="{value}"' if key in ("data.name",) or ":" in value else change
    params = params_of([quoted])
    assert params_of(overrides(params)) == params


def test_command_survives_a_shell(workdir):
    workdir.params["data"]["root"] = "/data/it's; here"
    words = shlex.split(command(read_run(workdir.write())).replace("\\\n", " "))
    assert words == ["mipp", "run", "--set", 'data.root="/data/it\'s; here"']


def test_parameter_that_its_stage_records_by_itself_is_given(workdir):
    workdir.params["extract"]["rows"] = 99
    assert command(read_run(workdir.write())) == "mipp run \\\n  --set extract.rows=99"


def test_parameters_that_no_stage_records_are_left_out(workdir):
    workdir.params["compute"]["workers"] = 7
    assert command(read_run(workdir.write())) == "mipp run"
