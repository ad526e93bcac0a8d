"""The `mipp` command: finds the command that is asked for in `mipp.commands`, and runs it."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mipp.commands.parser import asked_for, command_line
from mipp.commands.table import COMMANDS
from mipp.process.allocator import keep_freed_memory
from mipp.process.exit_codes import exit_code

PLAIN, FULL = "%(message)s", "%(asctime)s %(name)s: %(message)s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    options = command_line(asked_for(given)).parse_args(given)
    keep_freed_memory()
    command = COMMANDS[options.command].load()
    with _messages_of(options):
        return exit_code(lambda: command.run(options), with_traceback=options.verbose)


@contextmanager
def _messages_of(options: argparse.Namespace) -> Iterator[None]:
    """Messages go to stderr; with `--quiet` neither they nor progress do, but warnings."""
    level = logging.WARNING if options.quiet else logging.INFO
    form = FULL if options.verbose else PLAIN
    logging.basicConfig(level=level, format=form, stream=sys.stderr)
    logger = logging.getLogger("mipp")
    before = logger.level
    logger.setLevel(level if options.quiet else before)
    try:
        yield
    finally:
        logger.setLevel(before)


if __name__ == "__main__":
    sys.exit(main())
