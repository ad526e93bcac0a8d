"""Parameters: every default is written down, and whatever is not a parameter is refused."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from mipp.budget import BUDGETS, Budget, parse_budget
from mipp.config import (
    Params,
    dump_params,
    load_params,
    parse_params,
    require_one_machine,
    write_params,
)
from mipp.errors import BudgetError, ConfigError

PARAMS = Path(__file__).parents[1] / "params.yaml"


def test_params_yaml_states_every_field_with_its_default():
    assert yaml.safe_load(PARAMS.read_text()) == dump_params(Params())


def test_params_yaml_keeps_the_order_of_the_models():
    def keys(values, prefix=""):
        for key, value in values.items():
            yield prefix + key
            if isinstance(value, dict):
                yield from keys(value, f"{key}.")

    assert list(keys(yaml.safe_load(PARAMS.read_text()))) == list(keys(dump_params(Params())))


def test_no_file_means_the_defaults():
    assert load_params() == Params()
    assert load_params(PARAMS) == Params()


@pytest.mark.parametrize(
    ("override", "section", "field", "value"),
    [
        ("train.epochs=3", "train", "epochs", 3),
        ("train.lr=1e-3", "train", "lr", 0.001),  # YAML 1.1 takes 1e-3 for text
        ("train.epochs=010", "train", "epochs", 10),  # and this for eight
        ("train.epochs=0x10", "train", "epochs", 16),
        ("report.title=12:30:45", "report", "title", "12:30:45"),  # and this for 45,045
        ("report.title=on", "report", "title", "on"),  # and this for true
        ("prune.refit=false", "prune", "refit", False),
        ("data.mean=[0.5, 0.4, 0.3]", "data", "mean", (0.5, 0.4, 0.3)),
        ("evaluate.export=[onnx]", "evaluate", "export", ("onnx",)),
        ("tracking.uri=null", "tracking", "uri", None),
        ("model.weights=/some/where=else", "model", "weights", "/some/where=else"),
        ("choose.budget=ratio:0.25", "choose", "budget", Budget("ratio", 0.25)),
    ],
)
def test_override_is_read_as_yaml(override, section, field, value):
    found = getattr(getattr(load_params(overrides=[override]), section), field)
    assert found == value
    assert type(found) is type(value)


def test_override_changes_nothing_else():
    changed = dump_params(load_params(overrides=["finetune.lr=0.5"]))
    expected = dump_params(Params())
    expected["finetune"]["lr"] = 0.5
    assert changed == expected


def test_override_wins_over_the_file_and_the_last_one_over_the_rest(tmp_path):
    (tmp_path / "p.yaml").write_text("seed: 1\ntrain:\n  epochs: 2\n  lr: 0.5\n")
    params = load_params(tmp_path / "p.yaml", ["train.epochs=3", "seed=4", "train.epochs=5"])
    assert (params.seed, params.train.epochs, params.train.lr) == (4, 5, 0.5)


@pytest.mark.parametrize(
    ("override", "match"),
    [
        ("trian.epochs=1", r"trian: expected a known key.*did you mean train.*choose from"),
        ("choose.budjet=1", r"choose\.budjet: .*did you mean budget\?.*choose from.*scope"),
        ("data.zzz=1", r"data\.zzz: expected a known key, got 'zzz'; choose from augment"),
        ("train.epochs=many", r"train\.epochs: .*integer.*'many'"),
        ("train.epochs=yes", r"train\.epochs: .*integer.*'yes'"),
        ("train.epochs=true", r"train\.epochs: expected a number or a word, got True"),
        ("train.lr=false", r"train\.lr: expected a number or a word, got False"),
        ("data.std=[true]", r"data\.std: expected a number or a word, got \[True\]"),
        ("report.title=true", r"report\.title: expected a number or a word, got True"),
        ("seed=12:30:45", r"seed: .*integer.*'12:30:45'"),
        ("train.batch_size=99999999999", r"train\.batch_size: .*less than 2147483648"),
        ("train.epochs=1e20", r"train\.epochs: "),
        ("train.lr=1e300", r"train\.lr: .*less than or equal to 1000"),
        ("data.size=100000", r"data\.size: .*less than or equal to 8192"),
        ("train.epochs=1.5", r"train\.epochs: .*integer.*1\.5"),
        ("train.epochs=-1", r"train\.epochs: .*greater than or equal to 0, got -1"),
        ("data.validation=1", r"data\.validation: .*less than 1, got 1"),
        ("train.lr=0", r"train\.lr: .*greater than 0, got 0"),
        ("train.lr=.nan", r"train\.lr: .*got nan"),
        ("train.lr=.inf", r"train\.lr: .*finite.*got inf"),
        ("train.milestones=[0.5, 1.5]", r"train\.milestones\.1: .*less than 1, got 1\.5"),
        ("train.when=later", r"train\.when: .*'before-pruning' or 'after-pruning', got 'later'"),
        ("finetune.when=after-pruning", r"finetune\.when: expected a known key"),
        ("train.schedule=linear", r"train\.schedule: .*'cosine'.*got 'linear'"),
        ("prune.refit=maybe", r"prune\.refit: .*boolean.*got 'maybe'"),
        ("data.std=[0]", r"data\.std\.0: .*greater than 0, got 0"),
        ("seed=null", r"seed: .*integer.*got None"),
        ("seed.x=1", r"seed: .*integer"),
        ("train=null", r"train: .*dictionary.*got None"),
        ("train.epochs", r"'train\.epochs'.*section\.key=value.*no '='"),
        ("data.augment=[", r"'data\.augment=\['.*YAML"),
    ],
)
def test_override_that_does_not_fit_is_refused(override, match):
    with pytest.raises(ConfigError, match=rf"(?s){match}"):
        load_params(overrides=[override])


def test_override_below_a_value_of_the_file_is_refused(tmp_path):
    (tmp_path / "p.yaml").write_text("seed: 1\n")
    with pytest.raises(ConfigError, match="'seed' is a value, not a section"):
        load_params(tmp_path / "p.yaml", ["seed.x=1"])


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"- a\n- b\n", r"holds no sections.*got a list"),
        (b"a: [", r"is no YAML"),
        (b"\xff\xfe\x00a", r"is no YAML"),
        (b"trian:\n  epochs: 1\n", r"p\.yaml are refused.*did you mean train"),
        (b"train:\n", r"train: .*got None"),
        (b"seed: -1\ntrain:\n  epochs: -1\n", r"seed: .*train\.epochs: "),  # all at once
    ],
)
def test_file_that_does_not_fit_is_refused(tmp_path, content, match):
    (tmp_path / "p.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"(?s){match}"):
        load_params(tmp_path / "p.yaml")


def _aliases(depth):
    """YAML in which each of so many lists holds the one before ten times."""
    lists = (
        f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10 if i else '123')}]" for i in range(depth)
    )
    return f"{{{', '.join(lists)}}}"


HOSTILE = {
    "a billion values by aliases": (_aliases(10), "stand for more than 100,000 values"),
    "a list that holds itself": ("&a [*a]", "stand for more than 100,000 values"),
    "a mapping that holds itself": ("&a {b: *a}", "stand for more than 100,000 values"),
    "lists without end": ("[" * 5000, "nested too deep"),
    "a number without end": ("1" * 5000, "limit .4300 digits"),
    "a date that is none": ("!!timestamp 2026-99-99", "month must be in 1..12"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("key", ["seed", "choose.limits"])
def test_yaml_that_is_larger_than_its_file_is_refused(name, key, tmp_path):
    text, match = HOSTILE[name]
    section, _, last = key.rpartition(".")
    file = tmp_path / "p.yaml"
    file.write_text(f"{section}:\n  {last}: {text}\n" if section else f"{last}: {text}\n")
    with pytest.raises(ConfigError, match=match):
        load_params(file)
    with pytest.raises(ConfigError, match=match):
        load_params(overrides=[f"{key}={text}"])


def test_a_few_aliases_are_read(tmp_path):
    (tmp_path / "p.yaml").write_text("train: {lr: &rate 0.25}\nfinetune: {lr: *rate}\n")
    params = load_params(tmp_path / "p.yaml")
    assert (params.train.lr, params.finetune.lr) == (0.25, 0.25)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"(?s)none\.yaml does not exist.*--config"):
        load_params(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("ratio:0.5", Budget("ratio", 0.5)),
        ("ratio:0", Budget("ratio", 0.0)),
        ("params:1", Budget("params", 1.0)),
        ("macs:1e-2", Budget("macs", 0.01)),
        ("latency:0.70", Budget("latency", 0.7)),
        ("latency:1", Budget("latency", 1.0)),
        ("nats:0.02", Budget("nats", 0.02)),
        ("confidence:95", Budget("confidence", 95.0)),
        ("confidence:50.5", Budget("confidence", 50.5)),
    ],
)
def test_budget_parses(text, budget):
    assert parse_budget(text) == budget


@pytest.mark.parametrize("value", ["-0.1", "1.0001", "nan", "inf", "half", "", "0.5:0.5"])
@pytest.mark.parametrize("kind", ["ratio", "params", "macs", "latency"])
def test_budget_out_of_range_is_refused(kind, value):
    meaning = BUDGETS[kind][2]
    with pytest.raises(BudgetError, match=rf"(?s)out of range.*{meaning}.*got '{value}'"):
        parse_budget(f"{kind}:{value}")


@pytest.mark.parametrize(
    "text", ["ratio:1", "params:0", "macs:0", "latency:0", "macs", "nats:-1", "nats:inf"]
)
def test_budget_at_the_wrong_end_of_its_range_is_refused(text):
    with pytest.raises(BudgetError, match="out of range"):
        parse_budget(text)


@pytest.mark.parametrize("value", ["50", "100", "101", "49.9", "0.95", "nan", "inf", "-95", ""])
def test_confidence_outside_its_open_interval_is_refused(value):
    match = rf"(?s)out of range.*sure.*number in \(50, 100\), got '{value}'.*confidence:95"
    with pytest.raises(BudgetError, match=match):
        parse_budget(f"confidence:{value}")


def test_budget_error_states_the_range_that_holds():
    with pytest.raises(BudgetError, match=r"\(0, 1\]"):
        parse_budget("macs:0")
    with pytest.raises(BudgetError, match=r"\[0, 1\)"):
        parse_budget("ratio:1")
    with pytest.raises(BudgetError, match=r"\[0, inf\)"):  # nats:0 is taken, nats:inf is not
        parse_budget("nats:inf")


@pytest.mark.parametrize("text", ["mac:0.5", "0.5", "MACS:0.5", ""])
def test_budget_of_unknown_kind_lists_the_kinds(text):
    match = r"(?s)^budget=.*KIND:VALUE.*choose from.*macs.*nats.*params.*ratio"
    with pytest.raises(BudgetError, match=match):
        parse_budget(text)


@pytest.mark.parametrize(
    "budget",
    [
        *(("mac", 0.5), ("macs", 1.5), ("nats", float("nan"))),
        *(("macs", "0.5"), ("macs", None), ("macs", True), (0.5, 1)),
    ],
)
def test_budget_that_does_not_hold_cannot_be_made(budget):
    with pytest.raises(BudgetError, match=r"no known kind|out of range"):
        Budget(*budget)


def test_budget_near_miss_is_suggested():
    with pytest.raises(BudgetError, match="did you mean macs"):
        load_params(overrides=["choose.budget=mac:0.5"])


@pytest.mark.parametrize("text", ["macs:0.123456789", "nats:1e-09"])
def test_budget_keeps_every_digit(text):
    params = load_params(overrides=[f"choose.budget={text}"])
    assert params.choose.budget == parse_budget(text)
    assert dump_params(params)["choose"]["budget"] == str(params.choose.budget)


def test_parameters_are_frozen():
    params = Params()
    with pytest.raises(ValidationError, match="frozen"):
        params.seed = 1
    with pytest.raises(ValidationError, match="frozen"):
        params.train.epochs = 1


@pytest.mark.parametrize("title", ["1e-3", "true", "null", "010", "~", "yes", "12:30", "- a", "{"])
def test_titles_that_look_like_something_else_come_back(title, tmp_path):
    params = parse_params({"report": {"title": title}})
    write_params(params, tmp_path / "p.yaml")
    assert load_params(tmp_path / "p.yaml").report.title == title


def test_written_parameters_are_read_back_equal(tmp_path):
    overrides = ["data.mean=[0.1]", "model.weights=w.pt", "choose.budget=nats:1e-9", "seed=7"]
    params = load_params(overrides=overrides)
    write_params(params, tmp_path / "p.yaml")
    assert load_params(tmp_path / "p.yaml") == params
    assert parse_params(dump_params(params)) == params


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (["compute.address=10.0.0.1:6379"], r"compute\.address has no effect.*runner=threads"),
        (["compute.runner=serial", "compute.gpus_per_task=1"], "gpus_per_task has no effect"),
        (["compute.cpus_per_task=2"], "cpus_per_task has no effect.*\n.*compute.runner=ray"),
        (["compute.runner=ray", "compute.cpus_per_task=1.5"], "whole number, as Ray does, got 1.5"),
        (
            ["compute.runner=ray", "compute.gpus_per_task=0.5", "compute.device=cpu"],
            "compute.device=cpu leaves idle",
        ),
        (["compute.runner=rya"], r"compute\.runner: expected input should be .*'ray'"),
    ],
)
def test_compute_that_makes_no_sense_is_refused(overrides, match):
    with pytest.raises(ConfigError, match=match):
        load_params(overrides=overrides)


def test_shares_of_a_gpu_are_taken_on_ray():
    compute = load_params(overrides=["compute.runner=ray", "compute.gpus_per_task=0.25"]).compute
    assert (compute.runner, compute.gpus_per_task, compute.address) == ("ray", 0.25, None)


def test_one_process_refuses_a_cluster():
    with pytest.raises(ConfigError, match=r"works on one machine.*\n.*python -m flows\.pipeline"):
        require_one_machine(load_params(overrides=["compute.runner=ray"]).compute)
    require_one_machine(Params().compute)
