"""How much information passes a network at its narrowest: cuts through the groups alive at once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mipp.graph.channels import Life


class Cuts:
    """The information that passes each cut of a network while its groups are decided.

    Once a group is written and until it is read for the last time it is alive, and all that the
    rest of the network learns of the inputs lies in the groups alive at a moment: they cut it.

    Parameters
    ----------
    lives : of every group.
    totals : nats that pass each group before it is decided.
    """

    def __init__(self, lives: Mapping[str, Life], totals: Mapping[str, float]) -> None:
        self._place = {group: place for place, group in enumerate(lives)}
        moments = np.unique(list(lives.values()))
        written, read = np.array(list(lives.values())).reshape(-1, 2).T
        self._alive = (written <= moments[:, None]) & (moments[:, None] < read)
        self._nats = np.array([totals[group] for group in lives], dtype=np.float64)

    def narrowest(self, group: str, nats: float) -> float:
        """Nats that pass the narrowest cut of which a group is part, with so many in the group."""
        place = self._place[group]
        moments = self._alive[self._alive[:, place]]
        beside = moments @ self._nats - self._nats[place]
        return nats + (float(beside.min()) if len(beside) else 0.0)

    def decide(self, group: str, nats: float) -> None:
        """So much passes the group from now on."""
        self._nats[self._place[group]] = nats
