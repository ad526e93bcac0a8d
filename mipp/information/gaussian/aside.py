"""States of pairs in a file, for networks whose states together would fill the memory.

A walk goes from group to group, and asks the pairs of one group alone: what a question needs is
read, and let go with the answer. A file that was just written is read from the system's cache, or
from the disk where the memory is wanted for something else.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mipp.information.gaussian.ordered import OrderedElimination
from mipp.information.gaussian.primal import PrimalElimination
from mipp.information.gaussian.state import PairState

WORTH = 2**30  # bytes of all states from which they are put aside
ROOM = 1.5  # times that, that the disk must have free
LARGE = ("weights", "alone", "precision", "spread")
AT_ONCE = 2**30  # bytes that are written by one call


@dataclass(frozen=True)
class StateAside:
    """A state whose large parts are read when they are needed; the answers are its own.

    Parameters
    ----------
    small : the state with nothing in its large parts.
    parts : what reads each of these.
    """

    small: PairState
    parts: Mapping[str, Callable[[], Tensor]]

    def single(self, targets: Tensor) -> Tensor:
        """As `PairState.single`."""
        return self._with("alone").single(targets)

    def joint(self, targets: Tensor) -> float:
        """As `PairState.joint`."""
        return self.small.joint(targets)

    def warm_started(self) -> StateAside:
        """As `PairState.warm_started`."""
        return replace(self, small=replace(self.small, drops=self._with("spread").new_drops()))

    def eliminate(self, targets: Tensor) -> PrimalElimination:
        """As `PairState.eliminate`."""
        return self._with("weights", "precision", "spread").eliminate(targets)

    def eliminate_in_order(self, targets: Tensor, order: Sequence[int]) -> OrderedElimination:
        """As `PairState.eliminate_in_order`."""
        state = self._with("weights", "precision", "spread")
        return state.eliminate_in_order(targets, order)

    def _with(self, *names: str) -> PairState:
        read: dict[str, Any] = {n: self.parts[n]() for n in names if n in self.parts}
        return replace(self.small, **read)


class Aside:
    """A file without a name, which goes with the last state in it, or with the process."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="mipp-", buffering=0)  # noqa: SIM115
        self._end = 0
        weakref.finalize(self, self._file.close)

    def put(self, state: PairState) -> StateAside | PairState:
        """The same state, in the file; itself where the disk has no room."""
        large = {n: getattr(state, n) for n in LARGE if getattr(state, n) is not None}
        try:
            parts = {name: self._write(tensor) for name, tensor in large.items()}
        except OSError:
            return state
        empty: dict[str, Any] = {name: tensor[:, :0].clone() for name, tensor in large.items()}
        return StateAside(replace(state, **empty), parts)

    def _write(self, tensor: Tensor) -> Callable[[], Tensor]:
        content = _bytes(tensor.contiguous())
        start, self._end = self._end, self._end + len(content)
        done = 0
        while done < len(content):
            done += os.pwrite(self._file.fileno(), content[done : done + AT_ONCE], start + done)
        shape, dtype = tensor.shape, tensor.dtype
        return lambda: self._read(start, torch.empty(shape, dtype=dtype, device="cpu"))

    def _read(self, start: int, tensor: Tensor) -> Tensor:
        content = _bytes(tensor)
        done = 0
        while done < len(content):
            got = os.preadv(self._file.fileno(), [content[done : done + AT_ONCE]], start + done)
            if not got:
                raise OSError(f"{self._file.name}: ends at byte {start + done}")
            done += got
        return tensor


def _bytes(tensor: Tensor) -> memoryview:
    """Of a contiguous tensor, shared with it."""
    return tensor.numpy().reshape(-1).view(np.uint8).data


def keeping(size: int, device: torch.device) -> Callable[[PairState], PairState | StateAside]:
    """What is done with a state where all are so many bytes: put aside, or nothing."""
    return Aside().put if is_worthwhile(size, device) else lambda state: state


def is_worthwhile(size: int, device: torch.device) -> bool:
    """Whether states of so many bytes are better put aside, and the disk has room for them."""
    if device.type != "cpu" or size < WORTH:
        return False
    try:
        return shutil.disk_usage(tempfile.gettempdir()).free > ROOM * size
    except OSError:  # there is no folder for temporary files
        return False
