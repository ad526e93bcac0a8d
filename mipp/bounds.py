"""Bounds of options, and the words in which a value outside of them is refused."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from annotated_types import BaseMetadata, Ge, Gt, Le, Lt

from mipp.errors import ConfigError, did_you_mean, option

Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
Count = Annotated[int, Ge(1), Lt(2**31)]
Repeats = Annotated[int, Ge(2), Lt(2**31)]
Seed = Annotated[int, Ge(0), Lt(2**63)]
Channels = Annotated[int, Ge(0)]
Margin = Annotated[float, Ge(0), Lt(1)]
Confidence = Annotated[float, Ge(0), Lt(100)]


def require_allowed(values: Any) -> None:
    """Refuse values that a field's type and bounds do not allow.

    Raises
    ------
    ConfigError : names the field as its caller wrote it.
    """
    kind: Any = type(values)
    for name, hint in _hints(kind).items():
        value, key = getattr(values, name), f"{kind.PREFIX}{name}"
        if type(None) in get_args(hint):  # a number, or none
            hint = None if value is None else get_args(hint)[0]
        if get_origin(hint) is Literal:
            require_choice(key, value, get_args(hint))
        elif get_origin(hint) is Annotated:
            require_number(key, value, hint)
        elif name == "limits":
            _require_patterns(key, value)
        elif hint == tuple[str, ...]:
            require_names(key, value)


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def require_choice(key: str, value: object, known: Sequence[str]) -> None:
    """Refuse what is none of these words.

    Raises
    ------
    ConfigError : names the option as its caller wrote it, and the words.
    """
    if not isinstance(value, str) or value not in known:
        raise ConfigError(f"{option(key)} {value!r} is unknown; {did_you_mean(str(value), known)}.")


def require_number(key: str, value: Any, hint: Any) -> None:
    """Refuse a value that is no number, or one out of bounds.

    Parameters
    ----------
    key : the option's name.
    hint : such as `Count`: int or float, annotated with bounds.

    Raises
    ------
    ConfigError : names the option as its caller wrote it.
    """
    kind, *bounds = get_args(hint)
    right = isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    right = right and (isinstance(value, Integral) or math.isfinite(value))
    if not right or not all(_HOLDS[type(bound)](value, bound) for bound in bounds):
        what = "a whole number" if kind is int else "a number"
        within = " and ".join(_SAYS[type(bound)].format(bound) for bound in bounds)
        raise ConfigError(f"{option(key)}: expected {what} {within}, got {value!r}.")


def _require_patterns(key: str, value: object) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ConfigError(
            f"{option(key)}: expected a mapping of names of modules, or of patterns with *, to the "
            f"greatest share that may go, got {value!r}."
        )
    for pattern, share in value.items():
        require_number(f"{key}[{pattern!r}]", share, Share)


def require_names(key: str, value: object) -> None:
    """Refuse what is no sequence of names of modules, such as a single one.

    Raises
    ------
    ConfigError : names the option as its caller wrote it.
    """
    listed = isinstance(value, Iterable) and not isinstance(value, str)
    if not listed or not all(isinstance(name, str) for name in value):  # type: ignore[attr-defined]
        raise ConfigError(
            f"{option(key)}: expected a sequence of names of modules, or of patterns with *, got "
            f"{value!r}."
        )


_HOLDS: Mapping[type[BaseMetadata], Callable[[Any, Any], bool]] = {
    Gt: lambda value, bound: value > bound.gt,
    Ge: lambda value, bound: value >= bound.ge,
    Lt: lambda value, bound: value < bound.lt,
    Le: lambda value, bound: value <= bound.le,
}
_SAYS = {Gt: "above {0.gt}", Ge: "of at least {0.ge}", Lt: "below {0.lt}", Le: "up to {0.le}"}
