"""The databases that a process talks to through SQLAlchemy, and which of their tables were written."""

from collections.abc import Callable, Iterable
from os.path import isfile
from pathlib import PurePath
from typing import Any

from sqlalchemy.engine.base import Connection, Engine

from pytest_jobs.probes.naming import Names
from pytest_jobs.probes.sqlalchemy_state import Database, outer_connection
from pytest_jobs.probes.sqlitefile import locked
from pytest_jobs.probes.tables import Wrote
from pytest_jobs.world import EVERYTHING, Rows, Unreadable

__all__ = ["Databases"]


class Databases:
    """Owns one reader a database; engines that lead to the same database share it.

    Attributes:
        on_use: Told of each database whenever a connection to it is made.
        on_close: Told when this is closed.
    """

    def __init__(self) -> None:
        self.on_use: Callable[[_One], None] = lambda one: None
        self.on_close: Callable[[], None] = lambda: None
        self._all: dict[object, _One] = {}
        self._of: dict[int, _One] = {}
        self._names = Names()

    @property
    def all(self) -> "list[_One]":
        """Every database that was used."""
        return list(self._all.values())

    @property
    def written(self) -> bool:
        """Whether any table was written, or may have been."""
        return any(one.written or one.called for one in self._all.values())

    def of(self, engine: Engine) -> "_One":
        """Return the database behind an engine, and remember it."""
        found = self._of.get(id(engine.pool))
        if found is None:
            key = _identity(engine)
            found = self._all.get(key)
            if found is None:
                found = self._all[key] = _One(engine)
            self._of[id(engine.pool)] = found
        self.on_use(found)
        return found

    def subject(self, engine: Engine, table: str) -> str:
        """Return what a table is called in the world: with its schema, with its database too when that is needed."""
        one = self.of(engine)
        return self._names.public(one, one.label, one.local(table))

    def wrote(self, engine: Engine, tables: Iterable[str]) -> None:
        """Remember tables that a job wrote to, as statements name them."""
        one = self.of(engine)
        one.written.update(map(one.local, tables))

    def called(self, engine: Engine, functions: frozenset[str]) -> None:
        """Remember functions that a job called."""
        self.of(engine).called.update(functions)

    def read(
        self, wanted: frozenset[str], outer: Callable[[Engine], Connection | None]
    ) -> tuple[dict[str, Rows], tuple[Unreadable, ...]]:
        """Return the rows of the written and the wanted tables.

        Args:
            wanted: Subjects of any probe.
            outer: Finds the test's own connection in whose transaction a job wrote, to an engine.
        """
        state: dict[str, Rows] = {}
        unreadable: tuple[Unreadable, ...] = ()
        tables = frozenset(subject for subject in wanted if ":" not in subject)
        for one in list(self._all.values()):
            wrote = Wrote(one.written, one.called)
            mine = one.written.union(*(self._names.private(one, one.label, subject) for subject in tables))
            if not mine and not wrote:
                continue
            try:
                over = outer(one.engine) or outer_connection(one.engine)
                found, failed = one.database.read(None if mine >= EVERYTHING else mine, over, wrote)
            except Exception as error:  # noqa: BLE001 - each driver has its own family of errors
                reason = f"{', '.join(sorted(one.written)) or one.label} could not be read: {error}"
                unreadable += (Unreadable("sqlalchemy", reason.partition("\n")[0]),)
                continue
            for subject, rows in found.items():
                references = {
                    column: self._names.public(one, one.label, table) for column, table in rows.references.items()
                }
                state[self._names.public(one, one.label, subject)] = Rows(
                    rows.key, rows.rows, rows.surrogate, references, rows.places
                )
            unreadable += failed
        return state, unreadable

    def locked(self) -> bool:
        """Whether somebody who wanted to write to one of the SQLite files would wait now."""
        paths = [one.engine.url.database for one in self._all.values() if one.engine.dialect.name == "sqlite"]
        return any(locked(path) for path in paths if path and isfile(path))

    def close(self) -> None:
        """Close what was kept open for reading."""
        self.on_close()
        for one in self._all.values():
            one.database.close()


class _One:
    """One database."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.database = Database(engine)
        self.written: set[str] = set()
        self.called: set[str] = set()
        name = str(engine.url.database or engine.url.host or engine.dialect.name)
        self.label = PurePath(name).stem if engine.dialect.name == "sqlite" else name
        default = engine.dialect.default_schema_name
        self._default = {"main", default} if engine.dialect.name == "sqlite" else {default, engine.url.database}

    def local(self, table: str) -> str:
        schema, dot, name = table.rpartition(".")
        return name if dot and schema in self._default else table


def _identity(engine: Engine) -> object:
    url: Any = engine.url
    if engine.dialect.name == "sqlite" and (not url.database or "memory" in url.database):
        return id(engine.pool)
    return engine.dialect.name, url.host, url.port, url.database
