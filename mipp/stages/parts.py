"""Where the parts of a stage that workers do side by side wait until all are there."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mipp.disk.storage import Workdir
from mipp.disk.whole_files import written_whole

ATTEMPTS = ".attempts"  # a line per attempt: who works, or worked, on the part


@dataclass(frozen=True)
class Parts:
    """Files of the parts of a stage that has this key, here or where the work directory is kept."""

    workdir: Workdir
    stage: str
    key: str

    def find(self, name: str) -> Path | None:
        """A file, brought here if it was made elsewhere; None while nobody has made it."""
        return self.workdir.file(self._within(name))

    @contextlib.contextmanager
    def making(self, name: str) -> Iterator[Path]:
        """A place for a file, which is there for everybody once the block ends."""
        with written_whole(self._place(name)) as partial:
            yield partial
        self.workdir.keep_file(self._within(name))

    def note_attempt(self, name: str) -> None:
        """Leave a line beside a part that says who works on it: machine and process."""
        note = self._place(name).with_suffix(ATTEMPTS)
        note.parent.mkdir(parents=True, exist_ok=True)
        with note.open("a") as file:
            file.write(f"{platform.node()} {os.getpid()}\n")

    def forget(self) -> None:
        """Remove all parts of the stage, those of other keys too."""
        self.workdir.forget(self._prefix())

    def _prefix(self) -> str:
        return f".{self.stage}.parts-"

    def _within(self, name: str) -> Path:
        return Path(f"{self._prefix()}{self.key[:16]}", name)

    def _place(self, name: str) -> Path:
        return self.workdir.folder / self._within(name)
