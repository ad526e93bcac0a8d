"""Which failures may pass by themselves. All others would only fail again, later."""

from __future__ import annotations

import errno

import torch

from mipp.errors import LostRankError, MippError
from tasks.tracking import is_unreachable

DELAYS = (5.0, 20.0, 80.0)  # seconds before the first, second and third retry
BUSY = (
    errno.EAGAIN,
    errno.EBUSY,
    errno.EIO,  # of a network drive
    errno.ENOMEM,
    errno.ESTALE,
    errno.ETIMEDOUT,
)


def may_pass(error: BaseException) -> bool:
    """Whether the same work may succeed a little later.

    True for a lost process of a training, which goes on from its last epoch, a lost connection, a
    drive that is busy or away, a graphics card whose memory another process fills, and an MLflow
    server that does not answer. Everything that mipp refuses depends on its input alone.
    """
    if isinstance(error, MippError):
        return isinstance(error, LostRankError)
    if isinstance(error, OSError) and error.errno in BUSY:
        return True
    passing = (ConnectionError, TimeoutError, torch.OutOfMemoryError)
    return isinstance(error, passing) or is_unreachable(error)
