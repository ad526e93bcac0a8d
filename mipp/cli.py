"""The `mipp` command: finds the command that is asked for in `mipp.commands`, and runs it."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from mipp.allocator import keep_freed_memory
from mipp.commands.parser import asked_for, command_line
from mipp.commands.table import COMMANDS
from mipp.exit_codes import exit_code

PLAIN, FULL = "%(message)s", "%(asctime)s %(name)s: %(message)s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    options = command_line(asked_for(given)).parse_args(given)
    _show_messages(options)
    keep_freed_memory()
    command = COMMANDS[options.command].load()
    return exit_code(lambda: command.run(options), with_traceback=options.verbose)


def _show_messages(options: argparse.Namespace) -> None:
    logging.basicConfig(
        level=logging.WARNING if options.quiet else logging.INFO,
        format=FULL if options.verbose else PLAIN,
        stream=sys.stderr,
    )


if __name__ == "__main__":
    sys.exit(main())
