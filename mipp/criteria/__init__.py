"""Rival criteria: a network and calibration data in, a score per unit out."""

from collections.abc import Callable, Mapping

from mipp.criteria.bn_scale import score_bn_scale
from mipp.criteria.chip import score_chip
from mipp.criteria.fpgm import score_fpgm
from mipp.criteria.grasp import score_grasp
from mipp.criteria.grasp_iterative import score_grasp_iterative
from mipp.criteria.he2017 import score_he2017
from mipp.criteria.hrank import score_hrank
from mipp.criteria.imp import score_imp
from mipp.criteria.l1 import score_l1
from mipp.criteria.l2 import score_l2
from mipp.criteria.mifs import score_mifs
from mipp.criteria.mrmr import score_mrmr
from mipp.criteria.obd import score_obd
from mipp.criteria.prospr import score_prospr
from mipp.criteria.random import score_random
from mipp.criteria.shared.criterion import CriterionInput
from mipp.criteria.snip import score_snip
from mipp.criteria.snip_iterative import score_snip_iterative
from mipp.criteria.sosp_h import score_sosp_h
from mipp.criteria.synflow import score_synflow
from mipp.criteria.taylor import score_taylor
from mipp.criteria.taylor_2017 import score_taylor_2017
from mipp.criteria.thinet import score_thinet
from mipp.selection.scores import Scores

CRITERIA: Mapping[str, Callable[[CriterionInput], Scores]] = {
    "bn-scale": score_bn_scale,
    "chip": score_chip,
    "fpgm": score_fpgm,
    "grasp": score_grasp,
    "grasp-iterative": score_grasp_iterative,
    "he2017": score_he2017,
    "hrank": score_hrank,
    "imp": score_imp,
    "l1": score_l1,
    "l2": score_l2,
    "mifs": score_mifs,
    "mrmr": score_mrmr,
    "obd": score_obd,
    "prospr": score_prospr,
    "random": score_random,
    "snip": score_snip,
    "snip-iterative": score_snip_iterative,
    "sosp-h": score_sosp_h,
    "synflow": score_synflow,
    "taylor": score_taylor,
    "taylor-2017": score_taylor_2017,
    "thinet": score_thinet,
}

__all__ = ["CRITERIA", "CriterionInput"]
