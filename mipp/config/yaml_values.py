"""Parameters as nested mappings: read from YAML files and `section.key=value`, unchecked.

Words are those of YAML 1.2, as DVC reads them: `yes`, `on` and `12:30` are text, `010` is ten.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import yaml

from mipp.disk.whole_files import write_whole
from mipp.errors import ConfigError

MOST_VALUES = 100_000  # in a file of parameters, aliases counted for what they stand for
_WORDS = {  # core schema of YAML 1.2.2, chapter 10.3: kind -> what it looks like, how it begins
    "null": (r"~|null|Null|NULL|", "~nN"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
}


def _tag(kind: str) -> str:
    return f"tag:yaml.org,2002:{kind}"


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]


for _kind, (_words, _first) in _WORDS.items():
    for _of in (_Loader, _Dumper):
        _begins = [*_first, ""] if _kind == "null" else [*_first]
        _of.add_implicit_resolver(
            f"tag:yaml.org,2002:{_kind}", re.compile(f"^({_words})$"), _begins
        )


def _whole_number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, 0) if text[:2] in ("0x", "0o") else int(text)


_Loader.add_constructor(_tag("int"), _whole_number)


def _values(text: str) -> Any:
    """What YAML says.

    Raises
    ------
    YAMLError : it is none, is nested too deep, or aliases make far more of it than is written.
    """
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        if _size(root, {}) > MOST_VALUES:
            raise yaml.YAMLError(f"its aliases stand for more than {MOST_VALUES:,} values")
        return loader.construct_document(root)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deep") from None
    except ValueError as error:  # of a number or a date
        raise yaml.YAMLError(str(error)) from None
    finally:
        loader.dispose()


def _size(node: yaml.Node, known: dict[int, float]) -> float:
    """Values in a node, those behind its aliases each time; infinite where it holds itself."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = math.inf
        inside = chain(*node.value) if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(_size(one, known) for one in inside)
    return known[id(node)]


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, unchecked.

    Raises
    ------
    ConfigError : the file is missing or no YAML mapping.
    """
    if not path.is_file():
        raise ConfigError(
            f"parameter file {path} does not exist.\n"
            f"Expected a YAML file such as params.yaml, got nothing at {path.resolve()}; "
            "give its path with --config, or leave --config out to use the defaults."
        )
    try:
        values = _values(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"parameter file {path} is no YAML: {error}.\nExpected `section:` lines with "
            "`key: value` beneath them, as in params.yaml; mend the file."
        ) from error
    if values is not None and not isinstance(values, dict):
        raise ConfigError(
            f"parameter file {path} holds no sections.\n"
            f"Expected `section:` lines, got a {type(values).__name__}; see params.yaml."
        )
    return values or {}


def write_yaml(values: Mapping[str, Any], path: Path) -> None:
    """Write a mapping in its order, for `read_yaml` to read back equal."""
    write_whole(path, yaml_text(values))


def yaml_text(values: Mapping[str, Any]) -> str:
    """A mapping as YAML, in its order."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)


def dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values of a nested mapping, each with its `section.key`.

    >>> dict(dotted({"seed": 0, "data": {"name": "digits"}}))
    {'seed': 0, 'data.name': 'digits'}
    """
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set one value of a nested mapping from `section.key=value`, the value in YAML.

    Raises
    ------
    ConfigError : the override cannot be read, or names a section inside a value.
    """
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(
            f"override {override!r} cannot be read.\n"
            "Expected section.key=value such as choose.budget=macs:0.5, got no '='."
        )
    *sections, last = key.split(".")
    target = values
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise ConfigError(f"override {override!r}: {section!r} is a value, not a section.")
    try:
        target[last] = _values(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"override {override!r} cannot be read: its value is no YAML: {error}.\nExpected a "
            f"number, a word or a list such as [0.1, 0.2], got {text!r}; mend the value."
        ) from error
