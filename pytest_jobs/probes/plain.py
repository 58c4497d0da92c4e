"""Copies of watched values, as plain data that stays what it was when it was read."""

import copy
import re
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

__all__ = ["Called", "loaded", "mock_calls", "plain"]

ATOMS = (str, bytes, int, float, complex, type(None), Enum, date, time, timedelta, Decimal, UUID, PurePath)
ADDRESS = re.compile(r" (?:at|id=)'? ?(?:0x[0-9a-fA-F]+|'?\d+'?)")
LONGEST = 2000
MAGIC = re.compile(r"(?:^|\.)__(?!(?:a?enter|a?exit|setitem|delitem|call)__)\w+__$")


class Called(tuple[Any, ...]):
    """A call of a mock: its name, positional and keyword arguments; it prints as it was written."""

    __slots__ = ()

    def __repr__(self) -> str:
        name, args, kwargs = self
        given = [*map(repr, args), *(f"{key}={value!r}" for key, value in kwargs.items())]
        return f"{name}({', '.join(given)})"


def loaded(module: str, *names: str) -> tuple[Any, ...]:
    """Return those classes of a module that exist, none when nobody has imported it."""
    there = sys.modules.get(module)
    found = [getattr(there, name, None) for name in names] if there is not None else []
    return tuple(each for each in found if isinstance(each, type))


def plain(value: Any, _within: tuple[int, ...] = ()) -> Any:
    """Return a copy that later changes of the value do not reach: rows, ORM objects and named tuples as mappings."""
    if isinstance(value, ATOMS):
        return value
    if id(value) in _within:
        return "<itself>"
    within = (*_within, id(value))
    fields = _fields(value)
    if fields is not None:
        return {name: plain(each, within) for name, each in fields.items()}
    if isinstance(value, Mapping):
        return {_key(key): plain(each, within) for key, each in value.items()}
    if isinstance(value, AbstractSet):
        return _plain_set([plain(each, within) for each in value])
    if isinstance(value, tuple):
        return tuple(plain(each, within) for each in value)
    if isinstance(value, Sequence | deque | Iterator) or _iterates(value):
        return [plain(each, within) for each in value]
    return _copied(value)


def mock_calls(mock: Any) -> list[Called]:
    """Return the calls that a mock recorded, those of its children too, without the looks that Python takes at it."""
    name = getattr(mock, "_mock_name", None) or ""
    calls = [(call[0], call[1], call[2]) for call in mock.mock_calls]
    return [
        Called((path.lstrip(".") or name or "called", plain(args), plain(kwargs)))
        for path, args, kwargs in calls
        if not MAGIC.search(path)
    ]


def _key(key: Any) -> Any:
    return key if isinstance(key, ATOMS) else _hashable(plain(key))


def _hashable(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return value


def _plain_set(members: list[Any]) -> Any:
    try:
        return set(members)
    except TypeError:
        return sorted(members, key=repr)


def _iterates(value: Any) -> bool:
    """Whether this is a result or query of a database library, or a view: something whose items are its content."""
    kind = type(value)
    home = kind.__module__.partition(".")[0]
    return home in {"sqlalchemy", "django"} and hasattr(kind, "__iter__") and not hasattr(kind, "__mapper__")


def _fields(value: Any) -> Mapping[str, Any] | None:
    kind = type(value)
    if isinstance(value, tuple):
        return _tuple_fields(value, kind)
    if hasattr(kind, "__mapper__"):
        return _mapped_fields(value)
    fields = getattr(getattr(kind, "_meta", None), "concrete_fields", None)
    if fields is not None:
        return {field.attname: value.__dict__.get(field.attname) for field in fields}
    if isinstance(value, loaded("sqlite3", "Row")):
        return {name: value[name] for name in value.keys()}  # noqa: SIM118 - a Row iterates over its values
    return None


def _tuple_fields(value: Any, kind: type) -> Mapping[str, Any] | None:
    if kind is tuple:
        return None
    if isinstance(value, loaded("sqlalchemy", "Row")):
        names = tuple(value._fields)
        return dict(zip(names, tuple(value), strict=True)) if len(set(names)) == len(names) > 0 else None
    names = getattr(value, "_fields", ())
    if names and all(isinstance(name, str) for name in names) and len(names) == len(value):
        return dict(zip(names, value, strict=True))
    return None


def _mapped_fields(value: Any) -> Mapping[str, Any]:
    found = {}
    for attribute in type(value).__mapper__.column_attrs:
        try:
            found[attribute.key] = getattr(value, attribute.key)
        except Exception:  # noqa: BLE001 - a detached object cannot load what it has not got
            found[attribute.key] = "<not loaded>"
    return found


def _copied(value: Any) -> Any:
    if isinstance(value, loaded("unittest.mock", "NonCallableMock")):
        return f"<Mock {getattr(value, '_mock_name', None) or type(value).__name__}>"
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001 - locks, sockets and generators refuse in many ways
        return _described(value)


def _described(value: Any) -> str:
    try:
        return ADDRESS.sub("", repr(value))[:LONGEST]
    except Exception:  # noqa: BLE001 - a broken __repr__ must not hide the rest of what is watched
        return f"<{type(value).__qualname__}>"
