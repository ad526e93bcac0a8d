"""The page of parameters: every field of the configuration with the words of params.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

FIELD = re.compile(r"^(?P<indent> {2})?(?P<name>\w+):(?P<value>[^#]*)(?:#\s*(?P<words>.*))?$")
GOES_ON = re.compile(r"^\s+(?:- .*)?#\s*(?P<words>.*)$")
LIKE = {"finetune": "train"}  # section whose fields mean what another's of that name do


def words_of_fields(text: str) -> dict[str, str]:
    """`section.field` -> what the comments of a params.yaml say of it; the section itself too."""
    words: dict[str, str] = {}
    section = field = ""
    for line in text.splitlines():
        if found := FIELD.match(line):
            name = found["name"]
            section, field = (section, f"{section}.{name}") if found["indent"] else (name, name)
            words[field] = (found["words"] or "").strip()
        elif field and (more := GOES_ON.match(line)):
            words[field] = f"{words[field]} {more['words']}".strip()
    for section, other in LIKE.items():
        for name in [
            name for name, said in words.items() if name.startswith(f"{section}.") and not said
        ]:
            words[name] = words.get(name.replace(section, other, 1), "")
    return words


def tables(params: Path) -> str:
    """A table for each section: field, default, meaning."""
    text = params.read_text()
    words, values = words_of_fields(text), yaml.safe_load(text)
    parts = []
    for name, section in values.items():
        said = words.get(name, "")
        parts += [f"## {name}", *([said] if said else [])]
        rows = section if isinstance(section, Mapping) else {}
        parts.append("\n".join(_table(name, rows, words)) if rows else f"Default: `{section}`")
    return "\n\n".join(parts)


def _table(section: str, rows: Mapping[str, Any], words: Mapping[str, str]) -> Iterator[str]:
    yield "| field | default | meaning |"
    yield "| --- | --- | --- |"
    for name, value in rows.items():
        field = f"{section}.{name}"
        meaning = words[field].replace("|", "\\|").replace("*", "\\*")
        yield f"| `{field}` | `{_written(value)}` | {meaning} |"


def _written(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
