"""Committed rows of a SQLite file, read over a connection of its own that nobody waits for."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pytest_jobs.probes.catalogs import CATALOGS, Query
from pytest_jobs.probes.tables import Tables, Wrote, cursor_query
from pytest_jobs.world import Rows, Unreadable

__all__ = ["attached_files", "file_state", "locked", "read_files", "sqlite_cursor", "sqlite_query"]

BUSY = 0.05


def attached_files(query: Query) -> dict[str, str]:
    """Return the files of a connection's databases by schema; an in-memory one has an empty path."""
    return {row[1]: row[2] or "" for row in query("PRAGMA database_list")[1] if row[1] != "temp"}


def sqlite_query(connection: Any) -> Query:
    """Return a query function over a `sqlite3` connection that a row factory of the user does not disturb."""

    return cursor_query(lambda: sqlite_cursor(connection))


def sqlite_cursor(connection: Any) -> Any:
    """Return a cursor of a connection whose rows are plain tuples."""
    opened = sqlite3.Cursor(connection)
    opened.row_factory = None
    return opened


def read_files(
    files: Mapping[str, str], tables: Tables, wanted: Iterable[str] | None, wrote: Wrote | None = None
) -> tuple[dict[str, Rows], tuple[Unreadable, ...]]:
    """Read tables as another process would see them now.

    Args:
        files: The path of each database, `main` among them.
        tables: Reads, and remembers what the tables look like.
        wanted: Subjects to read, None for all.
        wrote: What statements wrote to and called.
    """
    with _open(files) as query:
        return tables.read(query, wanted, wrote)


def file_state(path: Path, name: str | None) -> tuple[dict[str, Rows], tuple[Unreadable, ...]]:
    """Return the rows of a database that a test watches by its path."""
    state, unreadable = read_files({"main": str(path.absolute())}, Tables(CATALOGS["sqlite"], "watch"), None)
    return {f"{name}.{subject}" if name else subject: rows for subject, rows in state.items()}, unreadable


def locked(path: str) -> bool:
    """Tell whether another process that wanted to write to a file would wait now."""
    connect: Callable[..., sqlite3.Connection] = sqlite3.Connection
    try:
        with closing(connect(f"file:{quote(path)}?mode=rw", uri=True, timeout=0, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        return "locked" in str(error)
    return False


@contextmanager
def _open(files: Mapping[str, str]) -> Iterator[Query]:
    connect: Callable[..., sqlite3.Connection] = sqlite3.Connection
    place = f"file:{quote(files['main'])}?mode=ro"
    with closing(connect(place, uri=True, timeout=BUSY, check_same_thread=False)) as connection:
        for schema, path in files.items():
            if schema != "main" and path:
                connection.execute(f"ATTACH ? AS {_quoted(schema)}", (f"file:{quote(path)}?mode=ro",))
        yield cursor_query(connection.cursor)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
