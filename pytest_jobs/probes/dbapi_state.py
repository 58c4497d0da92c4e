"""Rows behind the `sqlite3`, `psycopg` and `pymysql` connections that a test gives to `jobs.watch`."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pytest_jobs.probes.catalogs import CATALOGS
from pytest_jobs.probes.plain import loaded
from pytest_jobs.probes.sqlitefile import attached_files, read_files, sqlite_query
from pytest_jobs.probes.tables import Tables, Wrote, cursor_query
from pytest_jobs.world import Unreadable

__all__ = ["ServerLook", "server_of", "watch_connection"]

Seen = tuple[Mapping[str, Any], tuple[Unreadable, ...]]


def watch_connection(source: Any) -> Callable[[], Seen]:
    """Return what reads every table that a connection can see, as far as it is committed.

    Args:
        source: A `sqlite3.Connection`, `psycopg.Connection`, `psycopg.AsyncConnection` or pymysql connection.
    """
    if isinstance(source, loaded("sqlite3", "Connection")):
        return _sqlite(source)
    try:
        family, connect = server_of(source)
    except Exception as error:  # noqa: BLE001 - a closed connection of a driver, told when it is read
        reason = f"a {type(source).__module__.partition('.')[0]} connection could not be read: {error}"
        return lambda: ({}, (Unreadable("dbapi", reason),))
    return ServerLook(family, connect)


class ServerLook:
    """Reads a server's tables over one connection that it keeps."""

    def __init__(self, family: str, connect: Callable[[], Any]) -> None:
        self._tables = Tables(CATALOGS[family], "dbapi")
        self._open = connect
        self._kept: Any = None

    def __call__(self, wanted: Iterable[str] | None = None, wrote: Wrote | None = None) -> Seen:
        if self._kept is None:
            self._kept = self._open()
        try:
            return self._tables.read(cursor_query(self._kept.cursor), wanted, wrote)
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()


def _sqlite(source: Any) -> Callable[[], Seen]:
    tables = Tables(CATALOGS["sqlite"], "dbapi")
    query = sqlite_query(source)

    def files() -> dict[str, str]:
        return attached_files(query)

    try:
        known = files()
    except Exception:  # noqa: BLE001 - a closed connection is told of when it is read
        known = {}

    def look() -> Seen:
        try:
            there = files()
        except Exception:
            if not known.get("main"):
                raise
            there = known
        return read_files(there, tables, None) if there["main"] else tables.read(query, None)

    return look


def server_of(connection: Any) -> tuple[str, Callable[[], Any]]:
    """Return what kind of server a connection leads to, and what opens another one to it, in autocommit mode."""
    if isinstance(connection, loaded("psycopg", "Connection", "AsyncConnection")):
        return "postgresql", _postgres(connection)
    return "mysql", _mysql(connection)


def _postgres(connection: Any) -> Callable[[], Any]:
    import psycopg

    given = {**connection.info.get_parameters(), "password": connection.info.password}
    options = f"{given.pop('options', '')} -c lock_timeout=50ms".strip()

    def connect() -> Any:
        return psycopg.connect(**given, options=options, autocommit=True)

    return connect


def _mysql(connection: Any) -> Callable[[], Any]:
    import pymysql

    if not connection.open:
        raise ValueError("the connection is closed")
    names = ("host", "port", "user", "password", "unix_socket", "charset")
    given = {name: getattr(connection, name, None) for name in names}
    given = {name: value for name, value in given.items() if value}
    if getattr(connection, "_secure", False):
        given["ssl"] = connection.ctx
    database = connection.db.decode() if isinstance(connection.db, bytes) else connection.db

    def connect() -> Any:
        opened = pymysql.connect(**given, database=database, autocommit=True)
        with opened.cursor() as cursor:
            cursor.execute("SET SESSION lock_wait_timeout = 1")
        return opened

    return connect
