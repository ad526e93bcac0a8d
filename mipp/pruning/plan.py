"""Which units stay under a budget, why each of them stays or goes, and what that spends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mipp.budget import Budget
from mipp.graph import ChannelGraph
from mipp.graph.reasons import Reason
from mipp.latency import TimeReport
from mipp.selection.by_information import Choice
from mipp.selection.by_scores import ScoreChoice
from mipp.selection.selection import Selection
from mipp.selection.spending import spent


@dataclass(frozen=True)
class Plan:
    """What a method proposes under a budget; nothing is cut yet. Prints as a table of groups.

    Parameters
    ----------
    choice : the selection, and what led to it.
    graph : of the dense network.
    times : what was measured, where the budget or the price is time.

    Example
    -------
    >>> import mipp, torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    >>> print(mipp.Pruner(net, torch.randn(32, 4)).plan("ratio:0.5"))
    ratio:0.5 by mipp: units 50.0 %, params 52.3 %, macs 50.0 %
      0: 6 -> 3
    """

    budget: Budget
    choice: Choice | ScoreChoice
    graph: ChannelGraph
    times: TimeReport | None = None

    @property
    def selection(self) -> Selection:
        """The channels of each group that stay."""
        return self.choice.selection

    @property
    def threshold(self) -> float | None:
        """What a unit had to be worth; None under a confidence, and of a rival's scores."""
        return self.choice.threshold if isinstance(self.choice, Choice) else None

    @property
    def information(self) -> Mapping[str, float]:
        """Nats of each whole group; none of a rival's scores."""
        return self.choice.information if isinstance(self.choice, Choice) else {}

    @property
    def lost(self) -> float | None:
        """Share of the nats of all groups that goes with the units that do; None by scores.

        Each unit counts what it added beside those that were left when it went, so that the sum of
        a group is what it tells less than before. Where they tell nothing, as of inputs that are
        all alike, nothing goes.
        """
        if not isinstance(self.choice, Choice):
            return None
        every = (unit for verdicts in self.choice.walk.verdicts.values() for unit in verdicts)
        gone = sum(unit.conditional for unit in every if not unit.kept)
        told = sum(self.choice.information.values())
        return gone / told if told else 0.0

    @property
    def near_collapsed(self) -> tuple[str, ...]:
        """Groups in which a unit stays only because of the floor."""
        return tuple(self.choice.near_collapsed())

    @property
    def left_whole(self) -> Mapping[str, Reason]:
        """Modules whose channels nobody may take, and why."""
        return self.graph.left_whole

    @property
    def unreached(self) -> Mapping[str, str]:
        """Modules with parameters that no call of the network ran, which are as they were."""
        return self.graph.unreached

    def units(self) -> list[dict[str, object]]:
        """One row per unit: its group and channel, what it was judged by, whether it stays, why.

        By information that is its visit, its nats alone and beside what was left, and of a test
        how sure; by scores its score and its rank from the best on.
        """
        return self.choice.units()

    def spending(self) -> dict[str, float]:
        """Shares of the dense network that stay, as predicted: units, params, macs, and latency."""
        kinds = ("units", "params", "macs", *(("latency",) if self.graph.latency else ()))
        counts = self.selection.counts()
        return {kind: spent(self.graph, counts, kind) for kind in kinds}

    def __str__(self) -> str:
        shares = ", ".join(f"{kind} {100 * s:.1f} %" for kind, s in self.spending().items())
        widths = self.selection.width
        lines = [f"{self.budget} by {self.selection.method}: {shares}"]
        lines += [f"  {g}: {widths[g]} -> {kept}" for g, kept in self.selection.counts().items()]
        return "\n".join(lines)
