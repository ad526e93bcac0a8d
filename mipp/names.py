"""Names that people bring: tables of registered things, and `package.module:attribute`.

Wherever a table's name may stand, so may the address of a thing of your own. Its module is
imported with the current folder on `sys.path`, as `python -m` has it.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, Generic, TypeVar, cast

from mipp.errors import InputError, did_you_mean, option

Row = TypeVar("Row")
Brought = TypeVar("Brought")


class Table(Mapping[str, Row], Generic[Row]):
    """Things of one kind by name: built in, or registered by whoever uses the library.

    Parameters
    ----------
    kind : what a row is, such as `model`.
    field : parameter that names one, such as `model.name`.
    error : raised for a name that cannot be had.
    check : raises TypeError with `expected ..., got ...` for what cannot be a row.
    rows : built-in ones; one given by its address is imported when it is first asked for.
    elsewhere : names that the parameter may say too, which are no rows and cannot become any.

    Example
    -------
    >>> def check(thing):
    ...     if not callable(thing):
    ...         raise TypeError(f"expected a function, got a {type(thing).__name__}")
    >>> shapes = Table("shape", "shape.name", InputError, check, {"root": "math:sqrt"})
    >>> @shapes.register("double")
    ... def double(x):
    ...     return 2 * x
    >>> shapes.resolve("double")(8), shapes.resolve("root")(9), shapes.resolve("math:floor")(2.5)
    (16, 3.0, 2)
    """

    def __init__(
        self,
        kind: str,
        field: str,
        error: type[InputError],
        check: Callable[[Any], None],
        rows: Mapping[str, Row | str],
        elsewhere: tuple[str, ...] = (),
    ) -> None:
        self._kind, self._field, self._error, self._check = kind, field, error, check
        self._rows: dict[str, Row | str] = dict(rows)
        self._imports: dict[str, Row] = {}  # of rows that are addresses
        self._elsewhere, self._built_in = elsewhere, frozenset((*rows, *elsewhere))

    def __getitem__(self, name: str) -> Row:
        row = self._rows[name]
        if not isinstance(row, str):
            return row
        if name not in self._imports:
            self._imports[name] = self._brought(row)
        return self._imports[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, name: object) -> bool:
        return name in self._rows  # without importing it

    def register(self, name: str) -> Callable[[Brought], Brought]:
        """Decorator that adds a row, for this process; defined anew, it takes its own place.

        Raises
        ------
        InputError : the name is taken or cannot be one, or the thing cannot be a row.
        """

        def add(thing: Brought) -> Brought:
            taken = name in self._built_in or (
                name in self._rows and address_of(self._rows[name]) != address_of(thing)
            )
            if taken or not name or set(name) & set(":/"):
                why = "is taken" if taken else "is no name"
                raise self._error(
                    f"{self._kind} {name!r} cannot be registered: the name {why}.\nExpected one "
                    f"without ':' and '/' beside {', '.join(self._known())}, got {name!r}; choose "
                    "another."
                )
            self._require(thing, name)
            self._rows[name] = cast(Row, thing)
            return thing

        return add

    def resolve(self, name: str) -> Row:
        """The thing of a registered name, or of a `package.module:attribute`.

        Raises
        ------
        InputError : of the table's kind: says what was looked for where, and what is there.
        """
        if name in self._rows:
            return self[name]
        if ":" in name:
            return self._brought(name)
        raise self._error(
            f"{self._kind} {name!r} ({option(self._field)}) is unknown; "
            f"{did_you_mean(name, self._known())}, or "
            "give one of yours as package.module:attribute."
        )

    def address(self, name: str) -> str:
        """Where a name's thing is defined, as `package.module:attribute`; imports nothing."""
        row = self._rows.get(name, name)
        return row if isinstance(row, str) else address_of(row)

    def module(self, name: str) -> str | None:
        """The module that defines a name's thing, None where the name says no module.

        Raises
        ------
        InputError : of the table's kind: it cannot be imported.
        """
        if name not in self._rows and ":" in name:
            self.resolve(name)
        module, colon, _ = self.address(name).partition(":")
        return module if colon else None

    def _known(self) -> tuple[str, ...]:
        return (*self, *self._elsewhere)

    def _brought(self, address: str) -> Row:
        module, _, path = address.partition(":")
        what = f"{self._kind} {address!r} ({option(self._field)})"
        if not module or not path or ":" in path or set(address) & set("/\\"):
            raise self._error(
                f"{what} is no address.\nExpected package.module:attribute, such as "
                f"my_module:{path.partition(':')[0] or 'mine'} for a thing in my_module.py, got "
                f"{address!r}."
            )
        thing: Any = self._imported(module, what)
        for part in path.split("."):
            try:
                thing = getattr(thing, part)
            except AttributeError as error:
                public = [known for known in dir(thing) if not known.startswith("_")]
                raise self._error(
                    f"{what} does not exist: module {module} ({_file(sys.modules[module])}) has "
                    f"no {path!r}.\nExpected one of its names; {did_you_mean(part, public)}."
                ) from error
        self._require(thing, address)
        return cast(Row, thing)

    def _imported(self, module: str, what: str) -> ModuleType:
        here = os.getcwd()
        if not {"", here} & set(sys.path):
            sys.path.insert(0, here)  # and it stays: what the module imports later lies there too
        if module not in sys.modules:
            importlib.invalidate_caches()  # of a file that was written a moment ago
        try:
            return importlib.import_module(module)
        except Exception as error:
            missing = isinstance(error, ModuleNotFoundError) and error.name is not None
            absent = missing and f"{module}.".startswith(f"{cast(ImportError, error).name}.")
            folders = ", ".join(folder or here for folder in sys.path)
            reason = (
                f"there is no module {module}.\nLooked in {folders}; start where {module} lies, "
                f"or install it. A file my_module.py is my_module here"
                if absent
                else f"module {module} fails while it is imported.\nExpected it to import, got "
                f"{type(error).__name__}: {error}; `python -c 'import {module}'` shows where"
            )
            raise self._error(f"{what} cannot be had: {reason}.") from error

    def _require(self, thing: Any, name: str) -> None:
        try:
            self._check(thing)
        except TypeError as error:
            what = f"{self._kind} {name!r} ({option(self._field)}) cannot be one"
            raise self._error(f"{what}: {address_of(thing)}.\n{error}.") from error


def address_of(thing: Any) -> str:
    """Where a function or class was defined; of any other thing, where its class was."""
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}:{named.__qualname__}"


def require_takes(function: Any, known: tuple[str, ...], what: str) -> None:
    """Refuse what cannot be called by `call_taking` with these keywords.

    Raises
    ------
    TypeError : it is not callable, or insists on something else.
    """
    if not callable(function):
        raise TypeError(f"expected {what}, got a {type(function).__name__}")
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError as error:
        raise TypeError(f"expected {what}, got one whose parameters cannot be read") from error
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for parameter in parameters:
        needed = parameter.default is parameter.empty and parameter.kind not in variadic
        by_name = parameter.kind is not parameter.POSITIONAL_ONLY
        if needed and not (by_name and parameter.name in known):
            raise TypeError(
                f"expected {what} that takes what it likes of {', '.join(known)} by these names, "
                f"got one that needs {parameter.name!r}; give it a default, or another name"
            )


def call_taking(function: Callable[..., Row], **known: Any) -> Row:
    """The function's answer to those of these keywords that its signature names."""
    names = inspect.signature(function).parameters
    return function(**{name: value for name, value in known.items() if name in names})


def _file(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or "built in"
