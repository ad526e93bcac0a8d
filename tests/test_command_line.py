"""The command line as a whole: help by task, options that every command has, exit codes told."""

import json
import logging
from types import SimpleNamespace

import pytest
import yaml

from mipp.cli import main
from mipp.commands import budget, params, parser, sweep
from mipp.commands.table import COMMANDS, TASKS
from mipp.config import Params
from mipp.process.exit_codes import EXIT_CODES
from mipp.pruning.frontier import Frontier, FrontierPoint
from mipp.stages import STAGES
from tests.smallest_run import SMALLEST


def helped(capsys, *words):
    """What `--help` prints after some words."""
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_help_lists_every_command_under_its_task(capsys):
    said = helped(capsys)
    for task, commands in TASKS.items():
        block = said.partition(f"\n{task}:\n")[2].partition("\n\n")[0]
        assert [line.split()[0] for line in block.splitlines()] == list(commands)
    assert EXIT_CODES in said


def test_every_stage_is_a_command():
    assert set(STAGES) <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_has_its_exit_codes_and_how_much_it_says(name, capsys):
    said = helped(capsys, name)
    assert EXIT_CODES in said
    assert "--quiet" in said
    assert "--verbose" in said


WITHOUT_JSON = {"dvc", "completion"}  # print a file


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_that_say_something_say_it_as_json_too(name, capsys):
    assert ("--json" in helped(capsys, name)) == (name not in WITHOUT_JSON)


def test_options_of_other_commands_are_not_imported():
    given = parser.command_line(parser.asked_for(["params", "--json"]))
    assert given.parse_args(["params", "--json"]).json
    with pytest.raises(SystemExit):
        given.parse_args(["budget", "--json"])


def test_parameters_as_json_are_those_as_yaml(capsys):
    assert main(["params", "--set", "seed=3"]) == 0
    as_yaml = yaml.safe_load(capsys.readouterr().out)
    assert main(["params", "--set", "seed=3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == as_yaml
    assert as_yaml["seed"] == 3


@pytest.mark.parametrize(("option", "shown"), [("--verbose", True), ("--quiet", False)])
def test_verbose_shows_where_an_error_is_from(option, shown, capsys):
    assert main(["params", option, "--set", "sead=3"]) == 2
    said = capsys.readouterr().err
    assert ("mipp/config/yaml_values.py" in said or "mipp/config/parameters.py" in said) == shown
    assert said.count("ConfigError: ") == 1


def test_quiet_and_verbose_exclude_each_other(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["params", "--quiet", "--verbose"])
    assert ended.value.code == 2
    assert "not allowed with argument --quiet" in capsys.readouterr().err


def test_stage_says_what_it_left_as_json(tmp_path, capsys):
    options = [f"--set={one}" for one in (*SMALLEST, "train.epochs=0")]
    assert main(["train", "--json", "--workdir", str(tmp_path / "w"), *options]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["stage"] == "train"
    assert said["folder"] == str(tmp_path / "w/train")
    assert "model.safetensors" in said["outputs"]


@pytest.mark.parametrize(("option", "level"), [("--quiet", logging.WARNING), ("--verbose", 0)])
def test_quiet_holds_while_the_command_runs(option, level, monkeypatch):
    seen = []
    monkeypatch.setattr(params, "run", lambda options: seen.append(logging.getLogger("mipp").level))
    assert main(["params", option]) == 0
    assert seen == [level]
    assert logging.getLogger("mipp").level == 0


def test_budgets_are_rows_of_json(tmp_path, monkeypatch, capsys):
    point = FrontierPoint("macs:0.5", 50, 0.5, 30, 0.3, 0.1)
    monkeypatch.setattr(budget, "require_before", lambda *given: None)
    monkeypatch.setattr(budget, "trade_off", lambda *given: Frontier((point,)))
    assert main(["budget", "--workdir", str(tmp_path), "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    expected = {"budget": "macs:0.5", "macs": 50, "macs_share": 0.5, "params": 30}
    assert row == {**expected, "params_share": 0.3, "lost": 0.1, "metric": None}


@pytest.mark.parametrize(("failed", "code"), [([], 0), ([1], 1)])
def test_sweep_says_what_failed_as_json(failed, code, monkeypatch, capsys):
    points = [SimpleNamespace(name=name, params=Params()) for name in ("a", "b")]
    monkeypatch.setattr(sweep, "plan_sweep", lambda *given: SimpleNamespace(wanted=points))
    monkeypatch.setattr(sweep, "run_sweep", lambda *given: [(points[n], "why") for n in failed])
    assert main(["sweep", "x.yaml", "--root", "r", "--json"]) == code
    said = json.loads(capsys.readouterr().out)
    assert said["failed"] == {points[n].name: "why" for n in failed}
    assert (said["points"], said["done"]) == (2, 2 - len(failed))
