"""Sections of the configuration as the values that the core takes."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from mipp.config import ChooseConfig, EstimateConfig, Params
from mipp.information.estimators import estimator_named
from mipp.settings import MIPP, Criterion, Limits, Method, Mipp


def method_of(params: Params) -> Method:
    """What `choose`, `estimate` and `extract` say of the method.

    Raises
    ------
    ConfigError : the estimator is unknown.
    """
    choose = params.choose
    settings = estimator_settings(params)
    if choose.method != MIPP:
        return Criterion(choose.method, choose.scope)
    shared = {f.name for f in fields(Mipp)} & (set(ChooseConfig.model_fields) - {"estimator"})
    values: dict[str, Any] = {name: getattr(choose, name) for name in shared}
    return Mipp(settings, rows=params.extract.rows, **values)


def estimator_settings(params: Params) -> Any:
    """The estimator's own settings, as far as section `estimate` has them."""
    kind = estimator_named(params.choose.estimator).settings
    known = [f.name for f in fields(kind) if f.name in EstimateConfig.model_fields]
    return kind(**{name: getattr(params.estimate, name) for name in known})


def limits_of(choose: ChooseConfig) -> Limits:
    """What stays whatever it adds."""
    return Limits(**{f.name: getattr(choose, f.name) for f in fields(Limits)})
