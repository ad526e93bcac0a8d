"""The command line made of the table: help by task, and the options of the command at hand."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from importlib import metadata

from mipp.commands.table import COMMANDS, TASKS
from mipp.process.exit_codes import EXIT_CODES

DISTRIBUTION = "mipp-pruning"
DESCRIPTION = "Prune vision networks while preserving information between layers."
EXAMPLES = """\
examples:
  mipp run                                         digits and LeNet-5, everything by default
  mipp run --workdir w --set data.name=mnist --set choose.budget=ratio:0.5
  mipp run --workdir w2 --from w --set choose.budget=macs:0.3    shares what does not change
  mipp run --set model.name=my_net:Net             a network of yours, in my_net.py
  mipp inspect --model my_net:Net                  what of it can be pruned, and how far
  mipp budget --workdir w --budgets macs:0.5 macs:0.3     what these would cost
  mipp doctor                                      whether this machine has what a run needs

`mipp COMMAND --help` has the options and more examples of each. A stage whose parameters, inputs
and code have not changed is not run again, so a killed run goes on where it stopped.
"""


def command_line(asked: Collection[str]) -> argparse.ArgumentParser:
    """The parser of `mipp`; of the commands that are asked for it has the options too.

    Those of the others are left out, so that none of their modules is imported.
    """
    parser = argparse.ArgumentParser(
        prog="mipp",
        usage="mipp COMMAND [options]",
        description=f"{DESCRIPTION}\n\n{_by_task()}",
        epilog=f"{EXAMPLES}\n{EXIT_CODES}",
        formatter_class=_ByTask,
    )
    parser.add_argument("--version", action="version", version=f"mipp {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", prog="mipp")
    for name, command in COMMANDS.items():
        of_command = commands.add_parser(
            name, help=command.help, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name in asked:
            _configure(name, of_command)
    return parser


def asked_for(arguments: Sequence[str]) -> Collection[str]:
    """The command that a command line names: the first word that is no option."""
    return [word for word in arguments if not word.startswith("-")][:1]


class _ByTask(argparse.RawDescriptionHelpFormatter):
    """Leaves commands to the description, which has them by task."""

    def add_argument(self, action: argparse.Action) -> None:
        if action.dest != "command":
            super().add_argument(action)


def _configure(name: str, parser: argparse.ArgumentParser) -> None:
    parser.description = f"{COMMANDS[name].help[0].upper()}{COMMANDS[name].help[1:]}."
    COMMANDS[name].load().configure(parser)
    parser.epilog = "\n".join(part for part in (parser.epilog, EXIT_CODES) if part)
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--quiet", action="store_true", help="show only warnings and errors")
    shown.add_argument(
        "--verbose",
        action="store_true",
        help="show when and where each line was written, and the traceback of an error",
    )


def _version() -> str:
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "from its sources, not installed"


def _by_task() -> str:
    wide = max(map(len, COMMANDS))
    blocks = (
        "\n".join([f"{task}:", *(f"  {n:<{wide}}  {c.help}" for n, c in commands.items())])
        for task, commands in TASKS.items()
    )
    return "\n\n".join(blocks)
