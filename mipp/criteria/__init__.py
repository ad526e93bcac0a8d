"""Rival criteria: a network and calibration data in, a score per unit out."""

from collections.abc import Callable, Mapping

from mipp.criteria.bn_scale import score_bn_scale
from mipp.criteria.chip import score_chip
from mipp.criteria.criterion import CriterionInput
from mipp.criteria.fpgm import score_fpgm
from mipp.criteria.he2017 import score_he2017
from mipp.criteria.hrank import score_hrank
from mipp.criteria.l1 import score_l1
from mipp.criteria.l2 import score_l2
from mipp.criteria.mifs import score_mifs
from mipp.criteria.mrmr import score_mrmr
from mipp.criteria.random import score_random
from mipp.criteria.taylor import score_taylor
from mipp.criteria.thinet import score_thinet
from mipp.selection.budget import Scores

CRITERIA: Mapping[str, Callable[[CriterionInput], Scores]] = {
    "bn-scale": score_bn_scale,
    "chip": score_chip,
    "fpgm": score_fpgm,
    "he2017": score_he2017,
    "hrank": score_hrank,
    "l1": score_l1,
    "l2": score_l2,
    "mifs": score_mifs,
    "mrmr": score_mrmr,
    "random": score_random,
    "taylor": score_taylor,
    "thinet": score_thinet,
}

__all__ = ["CRITERIA", "CriterionInput"]
