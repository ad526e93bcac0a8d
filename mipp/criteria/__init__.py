"""Rival criteria: a network and calibration data in, a score per unit out.

Each file is one method, imported when it is asked for; `shared/` holds what several need. A method
of yours is a function of a `CriterionInput` that returns the scores of every group's units,
higher means keep: `my_module:score` wherever a method may be named, or under a name of its own by
`register_criterion`. `mipp.testing.check_criterion` checks it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from mipp.criteria.shared.criterion import Criterion, CriterionInput
from mipp.errors import ConfigError
from mipp.names import Table
from mipp.settings import MIPP


def _require_criterion(thing: Any) -> None:
    what = "a function of a mipp.criteria.CriterionInput"
    if not callable(thing):
        raise TypeError(f"expected {what}, got a {type(thing).__name__}")
    try:
        inspect.signature(thing).bind(CriterionInput)
    except (TypeError, ValueError) as error:
        raise TypeError(f"expected {what} alone, got one that cannot be called so") from error


CRITERIA: Table[Criterion] = Table(
    "method",
    "method",
    ConfigError,
    _require_criterion,
    {
        "aofp": "mipp.criteria.aofp:score_aofp",
        "bn-scale": "mipp.criteria.bn_scale:score_bn_scale",
        "ccp": "mipp.criteria.ccp:score_ccp",
        "chip": "mipp.criteria.chip:score_chip",
        "dcp": "mipp.criteria.dcp:score_dcp",
        "ecoflap": "mipp.criteria.ecoflap:score_ecoflap",
        "eigendamage": "mipp.criteria.eigendamage:score_eigendamage",
        "fpgm": "mipp.criteria.fpgm:score_fpgm",
        "grasp": "mipp.criteria.grasp:score_grasp",
        "grasp-iterative": "mipp.criteria.grasp_iterative:score_grasp_iterative",
        "greg-1": "mipp.criteria.greg_1:score_greg_1",
        "greg-2": "mipp.criteria.greg_2:score_greg_2",
        "he2017": "mipp.criteria.he2017:score_he2017",
        "hrank": "mipp.criteria.hrank:score_hrank",
        "imp": "mipp.criteria.imp:score_imp",
        "imp-rewind": "mipp.criteria.imp_rewind:score_imp_rewind",
        "increg": "mipp.criteria.increg:score_increg",
        "isometry": "mipp.criteria.isometry:score_isometry",
        "l1": "mipp.criteria.l1:score_l1",
        "l2": "mipp.criteria.l2:score_l2",
        "mifs": "mipp.criteria.mifs:score_mifs",
        "mrmr": "mipp.criteria.mrmr:score_mrmr",
        "obd": "mipp.criteria.obd:score_obd",
        "obs": "mipp.criteria.obs:score_obs",
        "pfp": "mipp.criteria.pfp:score_pfp",
        "prospr": "mipp.criteria.prospr:score_prospr",
        "random": "mipp.criteria.random:score_random",
        "sage": "mipp.criteria.sage:score_sage",
        "slimming": "mipp.criteria.slimming:score_slimming",
        "snip": "mipp.criteria.snip:score_snip",
        "snip-iterative": "mipp.criteria.snip_iterative:score_snip_iterative",
        "sosp-h": "mipp.criteria.sosp_h:score_sosp_h",
        "sosp-i": "mipp.criteria.sosp_i:score_sosp_i",
        "srp": "mipp.criteria.srp:score_srp",
        "ssl": "mipp.criteria.ssl:score_ssl",
        "synflow": "mipp.criteria.synflow:score_synflow",
        "taylor": "mipp.criteria.taylor:score_taylor",
        "taylor-2017": "mipp.criteria.taylor_2017:score_taylor_2017",
        "thinet": "mipp.criteria.thinet:score_thinet",
        "tpp": "mipp.criteria.tpp:score_tpp",
        "variational": "mipp.criteria.variational:score_variational",
        "woodfisher": "mipp.criteria.woodfisher:score_woodfisher",
    },
    elsewhere=(MIPP,),
)


def register_criterion(name: str) -> Callable[[Criterion], Criterion]:
    """Decorator: `choose.method` and `mipp.prune(..., method=)` may say this name, in this process.

    Elsewhere, and from every command, `package.module:attribute` names the same criterion.

    Raises
    ------
    ConfigError : the name is taken, or what is registered cannot be called with one argument.

    Example
    -------
    >>> import numpy as np
    >>> @register_criterion("first-come")
    ... def score(given):
    ...     return {name: -np.arange(w, dtype=float) for name, w in given.graph.widths.items()}
    >>> CRITERIA["first-come"] is score
    True
    """
    return CRITERIA.register(name)


__all__ = ["CRITERIA", "MIPP", "Criterion", "CriterionInput", "register_criterion"]
