"""Parameters as nested mappings: read from YAML files and `section.key=value`, unchecked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mipp.errors import ConfigError


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
        values = yaml.safe_load(path.read_text())
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
    path.write_text(yaml_text(values))


def yaml_text(values: Mapping[str, Any]) -> str:
    """A mapping as YAML, in its order."""
    return yaml.safe_dump(values, sort_keys=False)


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
        target[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"override {override!r} cannot be read: its value is no YAML.\nExpected a number, a "
            f"word or a list such as [0.1, 0.2], got {text!r}; mend the value."
        ) from error
