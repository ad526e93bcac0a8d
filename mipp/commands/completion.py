"""`mipp completion`: what completes commands, options and files in a shell."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import shtab

from mipp.commands.parser import command_line
from mipp.commands.table import COMMANDS

SHELLS = ("bash", "zsh", "fish")
PATHS = {
    "FILE": shtab.FILE,
    "CHECKPOINT": shtab.FILE,
    "PATH": shtab.FILE,
    "DIR": shtab.DIRECTORY,
    "FOLDER": shtab.DIRECTORY,
    "RUN": shtab.DIRECTORY,
}  # metavar of an option -> what there is to choose from
EPILOG = """\
examples:
  mipp completion bash > ~/.local/share/bash-completion/completions/mipp
  mipp completion zsh > ~/.zfunc/_mipp             with ~/.zfunc in fpath, before compinit
  mipp completion fish > ~/.config/fish/completions/mipp.fish

Make it anew after an update of mipp.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.epilog = EPILOG
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))


def run(options: argparse.Namespace) -> int:
    """Print the shell's script."""
    parser = command_line(COMMANDS)
    for action in _actions(parser):
        if isinstance(action.metavar, str) and action.metavar in PATHS:
            action.complete = PATHS[action.metavar]  # type: ignore[attr-defined]
    print(shtab.complete(parser, options.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All options and arguments, those of the commands too."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
