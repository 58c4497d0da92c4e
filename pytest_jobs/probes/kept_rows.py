"""The rows of a database, kept as they are now and put back later."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote

from pytest_jobs.probes.catalogs import CATALOGS, Query, Table
from pytest_jobs.probes.sqlitefile import BUSY
from pytest_jobs.probes.tables import Tables, cursor_query
from pytest_jobs.world import Rows

__all__ = ["Access", "Enter", "KeptRows", "file_access", "hurried", "transaction"]

SEQUENCES = "sqlite_sequence"
# What a server computes by itself and lets nobody insert.
COMPUTED = MappingProxyType({
    "postgresql": "SELECT table_schema, table_name, column_name FROM information_schema.columns WHERE is_generated = 'ALWAYS'",
    "mysql": "SELECT table_schema, table_name, column_name FROM information_schema.columns WHERE extra LIKE '%GENERATED%'",
})  # fmt: skip
# A plain DROP TABLE ends the transaction on MySQL.
DROPS = MappingProxyType({"postgresql": "DROP TABLE IF EXISTS pg_temp.", "mysql": "DROP TEMPORARY TABLE IF EXISTS "})
# Nobody waits for a lock, and copying locks nothing.
BRIEF = MappingProxyType({
    "postgresql": ("SET lock_timeout = '50ms'",),
    "mysql": ("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", "SET SESSION innodb_lock_wait_timeout = 1"),
})  # fmt: skip


class Access(NamedTuple):
    """A way into a database.

    Attributes:
        cursor: Makes cursors whose rows are plain tuples.
        begin: Begins a transaction; returns what commits it.
    """

    cursor: Callable[[], Any]
    begin: Callable[[], Callable[[], Any]]


Enter = Callable[[], AbstractContextManager[Access]]


class KeptRows:
    """Owns a copy of every row of one database.

    SQLite's rows are kept here; those of a server in temporary tables there, because not every value that a driver
    reads can be written again. So a server is entered over the same connection each time.

    Args:
        family: `sqlite`, `postgresql` or `mysql`.
        label: What the database is called.
        enter: Opens it.
    """

    def __init__(self, family: str, label: str, enter: Enter) -> None:
        self._family = family
        self._label = label
        self._enter = enter
        self._tables = Tables(CATALOGS[family], "kept")
        self._rows: Mapping[str, Rows] | None = None
        self._sequences: Sequence[Any] = ()
        self._copies: dict[str, str] = {}
        self._failed = ""

    def keep(self) -> None:
        """Remember every row."""
        self._failed = ""
        try:
            with self._enter() as access:
                query = cursor_query(access.cursor)
                rows = self._tables.read(query, None)[0]
                if self._family == "sqlite":
                    self._sequences = _sequences(query)
                else:
                    self._copy(access, query, [name for name in rows if (self._rows or {}).get(name) != rows[name]])
                self._rows = rows
        except Exception as error:  # noqa: BLE001 - each driver has its own family of errors
            self._rows, self._failed = None, f"the rows of {self._label} were not kept: {_short(error)}"

    def restore(self) -> tuple[str, ...]:
        """Write again the tables that changed."""
        if self._rows is None:
            return (self._failed,)
        try:
            with self._enter() as access:
                query = cursor_query(access.cursor)
                changed = self._changed(query)
                if not changed:
                    return ()
                commit = access.begin()
                self._write(access, query, changed)
                commit()
                left = self._changed(query)
        except Exception as error:  # noqa: BLE001 - each driver has its own family of errors
            return (f"the rows of {self._label} could not be put back: {_short(error)}",)
        return tuple(f"table {table.subject} of {self._label} is not what it was" for table in left)

    def _changed(self, query: Query) -> list[Table]:
        now = self._tables.read(query, None)[0]
        kept = self._rows or {}
        known = self._tables.described(query)
        return [
            known[name] for name, rows in now.items() if (rows.rows != kept[name].rows if name in kept else bool(rows.rows))
        ]

    def _write(self, access: Access, query: Query, changed: list[Table]) -> None:
        """Empty tables, those that point to others first; fill them the other way round."""
        if self._family == "mysql":
            query("SET FOREIGN_KEY_CHECKS = 0")
        ordered = _children_first(changed)
        for table in ordered:
            query(f"DELETE FROM {self._place(table)}")
        for table in reversed(ordered):
            if self._family == "sqlite":
                self._insert(access, table)
            elif table.subject in self._copies:
                columns = ", ".join(map(self._quote, self._plain_columns(query, table)))
                identity = " OVERRIDING SYSTEM VALUE" if self._family == "postgresql" else ""
                query(
                    f"INSERT INTO {self._place(table)} ({columns}){identity} "
                    f"SELECT {columns} FROM {self._copies[table.subject]}"
                )
        if self._family == "mysql":
            query("SET FOREIGN_KEY_CHECKS = 1")
        if self._family == "sqlite" and _sequences(query) != self._sequences:
            query(f"DELETE FROM {SEQUENCES}")
            with closing(access.cursor()) as cursor:
                cursor.executemany(f"INSERT INTO {SEQUENCES} (name, seq) VALUES (?, ?)", self._sequences)

    def _insert(self, access: Access, table: Table) -> None:
        rows = (self._rows or {}).get(table.subject)
        if rows is None or not rows.rows:
            return
        columns = ", ".join(map(self._quote, table.columns))
        marks = ", ".join("?" for _ in table.columns)
        with closing(access.cursor()) as cursor:
            cursor.executemany(
                f"INSERT INTO {self._place(table)} ({columns}) VALUES ({marks})",
                [tuple(row[column] for column in table.columns) for row in rows.rows],
            )

    def _copy(self, access: Access, query: Query, names: Iterable[str]) -> None:
        known = self._tables.described(query)
        for name in names:
            copy = self._copies.setdefault(name, f"jobs_kept_{len(self._copies) + 1}")
            columns = ", ".join(map(self._quote, self._plain_columns(query, known[name])))
            query(f"{DROPS[self._family]}{copy}")
            query(f"CREATE TEMPORARY TABLE {copy} AS SELECT {columns} FROM {self._place(known[name])}")

    def _plain_columns(self, query: Query, table: Table) -> list[str]:
        computed = {tuple(row) for row in query(COMPUTED[self._family])[1]}
        return [column for column in table.columns if (table.schema, table.name, column) not in computed]

    def _quote(self, name: str) -> str:
        return self._tables.catalog.quote(name)

    def _place(self, table: Table) -> str:
        return ".".join(self._quote(part) for part in (table.schema, table.name) if part)


def _children_first(tables: list[Table]) -> list[Table]:
    """Order tables so that each comes before those that it points to, as far as they do not point in circles."""
    left, ordered = list(tables), []
    while left:
        free = [one for one in left if not any(one.subject in _targets(other) for other in left if other is not one)]
        chosen = free[0] if free else left[0]
        left.remove(chosen)
        ordered.append(chosen)
    return ordered


def _targets(table: Table) -> frozenset[str]:
    return frozenset(table.references.values())


def _sequences(query: Query) -> Sequence[Any]:
    if not query(f"SELECT 1 FROM sqlite_master WHERE name = '{SEQUENCES}'")[1]:
        return ()
    return [tuple(row) for row in query(f"SELECT name, seq FROM {SEQUENCES} ORDER BY name")[1]]


def _short(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


@contextmanager
def file_access(files: Mapping[str, str]) -> Iterator[Access]:
    """Open a SQLite file over a connection of its own, which waits for nobody.

    Args:
        files: The path of each database, `main` among them.
    """
    connect: Callable[..., sqlite3.Connection] = sqlite3.Connection
    place = f"file:{quote(files['main'])}?mode=rw"
    with closing(
        connect(place, uri=True, timeout=BUSY, check_same_thread=False, isolation_level=None)
    ) as connection:
        for schema, path in files.items():
            if schema != "main" and path:
                name = CATALOGS["sqlite"].quote(schema)
                connection.execute(f"ATTACH ? AS {name}", (f"file:{quote(path)}?mode=rw",))

        def begin() -> Callable[[], Any]:
            connection.execute("BEGIN IMMEDIATE")
            return connection.commit

        yield Access(connection.cursor, begin)


def hurried(family: str, cursor: Callable[[], Any]) -> None:
    """Let a connection to a server wait for nobody."""
    for statement in BRIEF[family]:
        cursor_query(cursor)(statement)


def transaction(cursor: Callable[[], Any]) -> Callable[[], None]:
    """Begin a transaction on a connection that commits each statement by itself; return what commits it."""
    query = cursor_query(cursor)
    query("BEGIN")

    def commit() -> None:
        query("COMMIT")

    return commit
