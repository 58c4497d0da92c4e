"""Databases behind connections that no library of ours owns, kept as they are now and put back later."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from weakref import ref

from pytest_jobs.probes.dbapi_state import server_of
from pytest_jobs.probes.kept_rows import Access, Enter, KeptRows, file_access, hurried, transaction
from pytest_jobs.probes.sqlitefile import sqlite_cursor

if TYPE_CHECKING:
    from pytest_jobs.probes.dbapi_driver import Driver, Place

__all__ = ["KeepingPlaces"]


class KeepingPlaces:
    """The part of the probe that puts databases back."""

    _places: "dict[object, Place]"
    _undead: bool

    def __init__(self) -> None:
        self._rows: dict[int, tuple[Place, KeptRows | None]] = {}
        self._met: dict[int, frozenset[str]] = {}
        self._opened: list[Any] = []
        self._keeping = self._busy = False

    def keep(self) -> None:
        """Remember the rows of each database that was written to so far, and of each that will be."""
        self._met.clear()
        self._keeping = True
        for place in self._places.values():
            self._keep(place)

    def restore(self) -> tuple[str, ...]:
        """Put them back; return one sentence for each part that could not be."""
        self._keeping = self._undead = False
        left: list[str] = []
        for number, written in self._met.items():
            place, rows = self._rows[number]
            if rows is not None:
                left += rows.restore()
            elif place.wrote.tables - written:
                left.append(f"the rows of {place.label} could not be put back: its connection is not there any more")
            place.wrote.tables.intersection_update(written)
        return tuple(left)

    def _know(self, place: "Place", driver: "Driver", key: object, connection: Any) -> None:
        """Remember how a database that is met for the first time can be entered."""
        enter = self._enter(driver.family, key, connection)
        self._rows[id(place)] = place, KeptRows(driver.family, place.label, enter) if enter is not None else None

    def _keep(self, place: "Place") -> None:
        if self._busy or id(place) in self._met or id(place) not in self._rows:
            return
        self._met[id(place)] = frozenset(place.wrote.tables)
        rows = self._rows[id(place)][1]
        self._busy = True
        try:
            if rows is not None:
                rows.keep()
        finally:
            self._busy = False

    def _close_kept(self) -> None:
        for connection in self._opened:
            with suppress(Exception):
                connection.close()
        self._opened.clear()
        self._rows.clear()
        self._met.clear()
        self._keeping = False

    def _enter(self, family: str, key: object, connection: Any) -> Enter | None:
        if family == "sqlite":
            return (lambda: file_access({"main": key})) if isinstance(key, str) else _in_memory(connection)
        try:
            connect = server_of(connection)[1]
        except Exception:  # noqa: BLE001 - a connection of a driver, in any state
            return None
        return self._on_server(family, connect)

    def _on_server(self, family: str, connect: Callable[[], Any]) -> Enter:
        kept: list[Any] = []

        @contextmanager
        def enter() -> Iterator[Access]:
            if not kept:
                kept.append(connect())
                self._opened.append(kept[0])
                hurried(family, kept[0].cursor)
            yield Access(kept[0].cursor, lambda: transaction(kept[0].cursor))

        return enter


def _in_memory(connection: Any) -> Enter:
    weak = ref(connection)

    @contextmanager
    def enter() -> Iterator[Access]:
        there = weak()
        if there is None:
            raise LookupError("its connection is not there any more")
        begun = there.in_transaction
        yield Access(lambda: sqlite_cursor(there), lambda: _nothing if begun else there.commit)

    return enter


def _nothing() -> None:
    """Leave the commit to whoever began the transaction."""
