"""`sqlite3` connections that tell what is written through them."""

import gc
import sqlite3
import sys
from pathlib import PurePath
from threading import get_ident
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet, ref

from pytest_jobs.probes.base import Patches
from pytest_jobs.probes.catalogs import CATALOGS, Query
from pytest_jobs.probes.dbapi_driver import Look
from pytest_jobs.probes.sqlitefile import attached_files, locked, read_files, sqlite_query
from pytest_jobs.probes.tables import Tables, Wrote

if TYPE_CHECKING:
    from pytest_jobs.probes.dbapi import DBAPIProbe

__all__ = ["SqliteDriver"]

OWNED = ("sqlalchemy.", "aiosqlite.", "django.", "pytest_jobs.")
FACTORY = 5
IMPLICIT = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE"})
LEGACY = getattr(sqlite3, "LEGACY_TRANSACTION_CONTROL", -1)


class SqliteDriver:
    """Replaces `sqlite3.connect` by one whose connections tell, except for the libraries that have a probe."""

    family = "sqlite"
    folds = False

    def __init__(self) -> None:
        self._patches = Patches()
        self._kinds: dict[type, type] = {}
        self._cursors: WeakSet[Any] = WeakSet()
        self._left: frozenset[int] = frozenset()
        self._threads: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    def install(self, probe: "DBAPIProbe") -> None:
        original: Any = sqlite3.connect

        def connect(*args: Any, **kwargs: Any) -> Any:
            self._collect(probe)
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if f"{caller}.".startswith(OWNED):
                return original(*args, **kwargs)
            if len(args) > FACTORY:
                args = (*args[:FACTORY], self._told(args[FACTORY], probe), *args[FACTORY + 1 :])
            else:
                kwargs["factory"] = self._told(kwargs.get("factory", sqlite3.Connection), probe)
            opened = original(*args, **kwargs)
            self._threads[opened] = get_ident()
            return opened

        connect.__doc__ = original.__doc__
        for module in (sqlite3, sys.modules.get("sqlite3.dbapi2")):
            if getattr(module, "connect", None) is original:
                self._patches.replace(module, "connect", lambda _: connect)

    def remove(self) -> None:
        self._patches.undo()

    def error(self) -> BaseException:
        return sqlite3.OperationalError("database is locked")

    def text(self, statement: Any, connection: Any) -> str:
        return str(statement)

    def open(self, connection: Any) -> bool:
        try:
            return bool(connection.in_transaction)
        except sqlite3.ProgrammingError:
            return False

    def begins(self, connection: Any, verb: str) -> bool:
        autocommit = getattr(connection, "autocommit", LEGACY)
        if autocommit == LEGACY:
            return connection.isolation_level is not None and verb in IMPLICIT
        return not autocommit

    def key(self, connection: Any) -> tuple[object, str]:
        path = attached_files(sqlite_query(connection))["main"]
        return (path or id(connection)), PurePath(path).stem or "memory"

    def single(self, key: object) -> bool:
        return not isinstance(key, str)

    def foreign(self, connection: Any) -> bool:
        return self._threads.get(connection, get_ident()) != get_ident()

    def look(self, connection: Any) -> Look:
        files = attached_files(sqlite_query(connection))
        tables = Tables(CATALOGS["sqlite"], "dbapi")
        if files["main"]:
            return lambda wanted, wrote: read_files(files, tables, wanted, wrote)
        weak = ref(connection)

        def in_memory(wanted: set[str] | None, wrote: Wrote) -> Any:
            there = weak()
            return tables.read(sqlite_query(there), wanted, wrote) if there is not None else ({}, ())

        return in_memory

    def locked(self, connection: Any) -> None:
        """The driver knows of open transactions by itself."""

    def query(self, connection: Any) -> Query | None:
        return sqlite_query(connection)

    def blocks(self, key: object) -> bool:
        return isinstance(key, str) and locked(key)

    def release(self, connection: Any) -> None:
        for cursor in list(self._cursors):
            if cursor.connection is connection:
                cursor.close()
        connection.rollback()

    def _collect(self, probe: "DBAPIProbe") -> None:
        """Free what earlier attempts dropped: a connection is a cycle, and locks its file until it is collected."""
        if probe.left_open(self) - self._left:
            gc.collect()
        self._left = probe.left_open(self)

    def _told(self, factory: Any, probe: "DBAPIProbe") -> Any:
        """Return a connection class that tells, with everything that the user's own factory adds."""
        if not isinstance(factory, type):
            return factory
        if factory not in self._kinds:
            self._kinds[factory] = self._connection_class(factory, probe)
        return self._kinds[factory]

    def _connection_class(self, base: Any, probe: "DBAPIProbe") -> type:
        driver = self

        class Connection(base):  # type: ignore[misc]
            def cursor(self, factory: Any = sqlite3.Cursor, /) -> Any:
                probe.uses(driver, self)
                opened = super().cursor(driver._told_cursor(factory, probe))
                if probe.recorder.active:
                    driver._cursors.add(opened)
                return opened

            def execute(self, *args: Any) -> Any:
                return self.cursor().execute(*args)

            def executemany(self, *args: Any) -> Any:
                return self.cursor().executemany(*args)

            def executescript(self, *args: Any) -> Any:
                return self.cursor().executescript(*args)

            def commit(self) -> None:
                with probe.commit(driver, self, undo=lambda: None):
                    super().commit()

            def __exit__(self, kind: object, error: object, trace: object, /) -> Any:
                if kind is not None or not self.in_transaction:
                    return super().__exit__(kind, error, trace)
                try:
                    self.commit()
                except BaseException:
                    self.rollback()
                    raise
                return False

        Connection.__name__, Connection.__qualname__ = base.__name__, base.__qualname__
        Connection.__module__ = base.__module__
        return Connection

    def _told_cursor(self, factory: Any, probe: "DBAPIProbe") -> Any:
        if not isinstance(factory, type):
            return factory
        if factory not in self._kinds:
            self._kinds[factory] = self._cursor_class(factory, probe)
        return self._kinds[factory]

    def _cursor_class(self, base: Any, probe: "DBAPIProbe") -> type:
        driver = self

        class Cursor(base):  # type: ignore[misc]
            def execute(self, statement: str, parameters: Any = (), /) -> Any:
                if probe.looks(driver, statement):
                    return super().execute(statement, parameters)
                with probe.statement(driver, self.connection, statement, parameters):
                    return super().execute(statement, parameters)

            def executemany(self, statement: str, parameters: Any, /) -> Any:
                shown = parameters if isinstance(parameters, list | tuple) else ()
                with probe.statement(driver, self.connection, statement, shown):
                    return super().executemany(statement, parameters)

            def executescript(self, script: str, /) -> Any:
                with (
                    probe.commit(driver, self.connection, undo=lambda: None),
                    probe.statement(driver, self.connection, script, (), script=True),
                ):
                    return super().executescript(script)

        Cursor.__name__, Cursor.__qualname__, Cursor.__module__ = base.__name__, base.__qualname__, base.__module__
        return Cursor
