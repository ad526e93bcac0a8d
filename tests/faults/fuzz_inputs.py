"""Parameters generated from their schema, and command lines."""

import contextlib
import io
import json
from unittest import mock

from fuzzing import HELPFUL, INTERNAL, ODD, spoilt_bytes, spoilt_value

from mipp import cli
from mipp.commands import run, stage
from mipp.config import Params, dump_params, load_params, parse_params, write_params
from mipp.stages import STAGES

SCHEMA = Params.model_json_schema()
SECTIONS = {
    name: SCHEMA["$defs"][part["$ref"].rpartition("/")[2]]["properties"]
    for name, part in SCHEMA["properties"].items()
    if "$ref" in part
}
KEYS = [(section, name) for section, fields in SECTIONS.items() for name in fields]
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
WORDS = (
    *("--set", "--workdir", "--config", "--json", "--quiet", "--from", "--budgets", "--model"),
    *(
        "--help",
        "--",
        "=",
        "-",
        "-1",
        "",
        "\x00",
        "ü",
        "a" * 3000,
        "nowhere://x",
        "memory://",
        "none",
    ),
    *("macs:0.5", "macs:2", "macs", "lenet5", "lenet6", "os:system", "/dev/null", "[", "{}", "a=b"),
    *("choose.budget=macs:0.3", "choose.budgett=1", "seed=-1", "seed=x", "train=3", ".=1", "=1"),
    *STAGES,
)


def value_like(rng, field):
    """A value that a field's schema allows, one at or just beyond its bounds, or an odd one."""
    if rng.random() < 0.2:
        return rng.choice(ODD)
    if "anyOf" in field:
        return value_like(rng, rng.choice(field["anyOf"]))
    bounds = [field[name] for name in BOUNDS if name in field]
    if "enum" in field:
        return rng.choice([*field["enum"], rng.choice(field["enum"]).upper()])
    if bounds and rng.random() < 0.6:
        return rng.choice(bounds) + rng.choice((0, 1, -1, 1e-9, -1e-9))
    kind = field.get("type")
    if kind == "array":
        items = field.get("items", {})
        return [value_like(rng, items) for _ in range(rng.choice((0, 1, 3)))]
    if kind == "object":
        inner = field.get("additionalProperties", {})
        return {rng.choice(("*", "conv*", "", "[")): value_like(rng, inner) for _ in range(2)}
    return {
        "integer": lambda: rng.choice((1, 2, 7, 64, 5000)),
        "number": lambda: round(rng.uniform(0, 1.2), 3),
        "boolean": lambda: rng.random() < 0.5,
        "null": lambda: None,
    }.get(kind, lambda: rng.choice(("mipp", "l1", "cpu", "ratio:0.5", "nats:1", "confidence:95")))()


def parameters(rng):
    """Parameters that are taken come back equal from a mapping and from a file."""
    keys = rng.sample(KEYS, rng.choice((1, 1, 2, 4)))
    values = {f"{s}.{name}": value_like(rng, SECTIONS[s][name]) for s, name in keys}
    texts = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    params = load_params(overrides=texts)
    assert parse_params(dump_params(params)) == params


def parameter_files(folder):
    """The same of files of YAML, whole and spoilt."""

    def parameter_file(rng):
        file = folder / "params.yaml"
        if rng.random() < 0.5:
            file.write_text(json.dumps(spoilt_value(rng, dump_params(Params()))))
        else:
            write_params(Params(), file)
            file.write_bytes(spoilt_bytes(rng, file.read_bytes()))
        params = load_params(file)
        write_params(params, file)
        assert load_params(file) == params

    return parameter_file


def command_lines(workdir):
    """Commands over a finished run whose stages and networks are not computed anew."""
    where = ["--workdir", str(workdir)]
    sound = (
        ["params"],
        ["params", "--set", "seed=3"],
        ["dvc", "--config", "params.yaml"],
        ["run", *where, "--json"],
        ["run", *where, "--set", "choose.budget=macs:0.3"],
        ["choose", *where, "--set", "seed=2"],
        ["sweep", "none.yaml", "--root", str(workdir)],
        ["inspect", "--model", "lenet5"],
    )

    def command_line(rng):
        words = list(rng.choice(sound))
        for _ in range(rng.choice((1, 1, 2, 3))):
            at = rng.randrange(len(words) + 1)
            replaced = rng.choice((0, 0, 1))
            words[at : at + replaced] = rng.choice(([], [rng.choice(WORDS)], words[:1]))
        said = io.StringIO()
        with (
            mock.patch.multiple(run, run_all=_nothing, show_result=_nothing),
            mock.patch.multiple(stage, run_one=_nothing, _as_json=_nothing),
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            code = _code(words)
        assert code in (0, 2), words
        text = said.getvalue()
        assert code == 0 or any(word in text for word in (*HELPFUL, "usage: ")), (words, text)
        assert not INTERNAL.search(text), (words, text)

    return command_line


def _code(words):
    try:
        return cli.main(words)
    except SystemExit as end:  # of argparse
        return end.code


def _nothing(*_, **__):
    """In the place of stages."""
