"""Rival criteria: a network and calibration data in, a score per unit out."""

from collections.abc import Callable, Mapping

from mipp.criteria.criterion import CriterionInput
from mipp.criteria.l1 import score_l1
from mipp.criteria.random import score_random
from mipp.criteria.taylor import score_taylor
from mipp.selection.budget import Scores

CRITERIA: Mapping[str, Callable[[CriterionInput], Scores]] = {
    "l1": score_l1,
    "random": score_random,
    "taylor": score_taylor,
}

__all__ = ["CRITERIA", "CriterionInput"]
