"""Forward passes over batches that wait for each other, so that each layer is fitted once.

Batch 1: conv1, waits ... fitted, goes on to conv2, waits ...
Batch 2:         conv1, waits ... goes on           conv2, waits ... fitted

A pass is a thread, of which one runs at a time: between its layers a network keeps what it has
computed in the frames of its forward, which nobody but Python can put aside.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from threading import Semaphore, Thread

import torch


class Held:
    """One pass that stops where it says `wait`, and goes on by `resume`.

    >>> words = []
    >>> one = Held(lambda held: (words.append("before"), held.wait("layer"), words.append("after")))
    >>> one.resume(); one.at, words
    ('layer', ['before'])
    >>> one.resume(); one.at, words
    (None, ['before', 'after'])
    """

    def __init__(self, run: Callable[[Held], object]) -> None:
        self.at: str | None = None  # where it waits
        self._go, self._stopped = Semaphore(0), Semaphore(0)
        self._error: BaseException | None = None
        self._ends = False
        self._device = torch.get_default_device()  # which a thread does not inherit
        self._thread = Thread(target=self._body, args=(run,), daemon=True)
        self._thread.start()

    def wait(self, at: str) -> None:
        """Called in the pass: stop here."""
        self.at = at
        self._stopped.release()
        self._go.acquire()
        self.at = None
        if self._ends:
            raise _Ended

    def resume(self) -> None:
        """Go on until the pass waits or is done; raises what it raises."""
        self._go.release()
        self._stopped.acquire()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def end(self) -> None:
        """Give the pass up, wherever it waits."""
        self._ends = True
        if self._thread.is_alive():
            self._go.release()
        self._thread.join()

    def _body(self, run: Callable[[Held], object]) -> None:
        self._go.acquire()
        try:
            with nullcontext() if self._device.type == "cpu" else self._device:
                if not self._ends:
                    run(self)
        except _Ended:
            pass
        except BaseException as error:  # handed to who waits for the pass
            self._error = error
        finally:
            self._stopped.release()


class _Ended(BaseException):
    """Unwinds a pass that is given up, past what a network catches."""
