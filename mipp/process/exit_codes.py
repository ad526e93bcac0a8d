"""What a command ends with, see `EXIT_CODES`."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mipp.errors import InputError, LostRankError, MippError

LOST = 3
STOPPED = 128 + signal.SIGINT
STOPPED_TEXT = "stopped by Ctrl-C; the same command goes on from what is complete by now\n"
EXIT_CODES = """\
exit codes: 0 done, 2 bad input, 3 a process of a training died, 130 stopped by Ctrl-C, 1 anything
else.
"""
OTHERS = 0o007  # all that people may do who are neither the owner nor of the group


def exit_code(command: Callable[[], int | None], *, with_traceback: bool = False) -> int:
    """The command's own code, 0 for None; of an error of mipp its kind's, with the text on stderr.

    What the command makes, others than its user and their group cannot read.

    Parameters
    ----------
    with_traceback : of an error of mipp, before its text.

    Example
    -------
    >>> exit_code(lambda: print("done"))
    done
    0
    """
    try:
        with _closed_to_others():
            code = command() or 0
            sys.stdout.flush()
            return code
    except BrokenPipeError:
        if not _output_is_closed():
            raise  # another pipe, such as one to a worker
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MippError as error:
        if with_traceback:
            traceback.print_tb(error.__traceback__)
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        if isinstance(error, LostRankError):
            return LOST
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        sys.stderr.write(STOPPED_TEXT)
        return STOPPED


def _output_is_closed() -> bool:
    """Whether whoever read the output, such as `head`, has had enough; one more line tells."""
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except BrokenPipeError:
        return True
    return False


@contextmanager
def _closed_to_others() -> Iterator[None]:
    before = os.umask(OTHERS)
    os.umask(before | OTHERS)
    try:
        yield
    finally:
        os.umask(before)
