"""What a command ends with: 0 done, 2 bad input, 1 anything else."""

from __future__ import annotations

import sys
from collections.abc import Callable

from mipp.errors import InputError, MippError


def exit_code(command: Callable[[], int | None]) -> int:
    """The command's own code, 0 for None; of an error of mipp its kind's, with the text on stderr.

    Example
    -------
    >>> exit_code(lambda: print("done"))
    done
    0
    """
    try:
        return command() or 0
    except MippError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 2 if isinstance(error, InputError) else 1
