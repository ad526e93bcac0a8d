"""The page of the command line: every command's help, by task."""

from __future__ import annotations

import argparse
import os
from unittest import mock

from mipp.commands.parser import command_line
from mipp.commands.table import COMMANDS, TASKS

WIDE = {"COLUMNS": "96"}  # of help, whatever the terminal


def helps() -> str:
    """A section for each task, with the help of its commands as it is printed."""
    parser = command_line(COMMANDS)
    [commands] = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    parts = []
    with mock.patch.dict(os.environ, WIDE):
        for task, names in TASKS.items():
            parts.append(f"## {task[0].upper()}{task[1:]}")
            for name in names:
                text = commands.choices[name].format_help().rstrip()
                parts += [f"### mipp {name}", f"```text\n{text}\n```"]
    return "\n\n".join(parts)
