"""Faults at a chosen write below a folder: the one place that every write passes.

Python tells an audit hook of all that it opens, makes, renames and removes; what libraries in C
write by name is told by a wrapper. A hook cannot be taken away, so that there is one, which does
what it is told to for as long as `watched` lasts.
"""

import contextlib
import errno
import os
import sys
from pathlib import Path
from unittest import mock

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = ("os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir")
BY_NAME = {  # functions of libraries in C -> the argument that names the file
    "safetensors.torch.serialize_file": 1,
    "safetensors.numpy.serialize_file": 1,
    "pyarrow.parquet.write_table": 1,
}
_doing = []  # what is done at every event, at most one thing


def _hook(event, arguments):
    if _doing and (event in CHANGES or (event == "open" and _writes(arguments))):
        _doing[0](event, os.fspath(arguments[0]))


def _writes(arguments):
    path, _, flags = arguments
    return isinstance(path, (str, Path)) and bool(flags & WRITING)


sys.addaudithook(_hook)


@contextlib.contextmanager
def watched(folder, act):
    """`act(number, event, path)` before every write below a folder, 0 first."""
    number = 0

    def count(event, path):
        nonlocal number
        if Path(path).is_relative_to(folder):
            number += 1
            act(number - 1, event, path)

    with contextlib.ExitStack() as stack:
        for name, place in BY_NAME.items():
            stack.enter_context(mock.patch(name, _telling(name, place)))
        _doing.append(count)
        try:
            yield
        finally:
            _doing.clear()


def _telling(name, place):
    module, _, function = name.rpartition(".")
    original = getattr(sys.modules[module], function)

    def telling(*arguments, **keywords):
        with contextlib.suppress(IndexError, TypeError):
            path = os.fspath(arguments[place])
            if isinstance(path, str):
                sys.audit("open", path, "wb", WRITING)
        return original(*arguments, **keywords)

    return telling


class Broken(Exception):
    """Anything that fails."""


def fails(at):
    """This write raises, the others do not."""

    def act(number, event, path):
        if number == at:
            raise Broken(f"write {number}: {event} {path}")

    return act


def full(at):
    """From this write on the disk is full; what is there can be removed."""

    def act(number, event, path):
        if number >= at and event in ("open", "os.mkdir"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    return act


def read_only(at):
    """From this write on nothing can be written, renamed or removed."""

    def act(number, event, path):
        if number >= at:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    return act


def killed(at):
    """The process ends before this write."""

    def act(number, event, path):
        if number == at:
            os._exit(137)

    return act


def torn(at):
    """The process ends before this write, and half of what it opened last is lost."""
    last = []

    def act(number, event, path):
        if number == at:
            for opened in last[-1:]:
                with contextlib.suppress(OSError):
                    os.truncate(opened, os.path.getsize(opened) // 2)
            os._exit(137)
        if event == "open":
            last.append(path)

    return act


FAULTS = {"raise": fails, "full disk": full, "read-only": read_only}
KILLS = {"kill": killed, "torn": torn}
