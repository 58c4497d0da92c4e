"""`psycopg` and `pymysql` connections, hooked where statements and commits go to the server."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from pytest_jobs.probes.base import Patches
from pytest_jobs.probes.catalogs import Query
from pytest_jobs.probes.dbapi_driver import Look
from pytest_jobs.probes.dbapi_state import ServerLook, server_of
from pytest_jobs.probes.tables import cursor_query

if TYPE_CHECKING:
    from pytest_jobs.probes.dbapi import DBAPIProbe

__all__ = ["PsycopgDriver", "PymysqlDriver"]


def _replace(patches: Patches, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Replace a method where it is defined, under its own name."""
    if name not in getattr(owner, "__dict__", ()):
        return

    def made(original: Any) -> Any:
        replacement = make(original)
        replacement.__name__, replacement.__doc__ = original.__name__, original.__doc__
        return replacement

    patches.replace(owner, name, made)


class PsycopgDriver:
    """Hooks psycopg 3, sync and async."""

    family = "postgresql"
    folds = True

    def __init__(self) -> None:
        self._patches = Patches()

    def install(self, probe: "DBAPIProbe") -> None:
        import psycopg

        for kind in (psycopg.Cursor, psycopg.ServerCursor):
            for name in ("execute", "executemany"):
                _replace(self._patches, kind, name, lambda original: self._statement(original, probe))
        for kind in (psycopg.AsyncCursor, psycopg.AsyncServerCursor):
            for name in ("execute", "executemany"):
                _replace(self._patches, kind, name, lambda original: self._async_statement(original, probe))
        _replace(self._patches, psycopg.Cursor, "copy", lambda original: self._copy(original, probe))
        _replace(self._patches, psycopg.AsyncCursor, "copy", lambda original: self._async_copy(original, probe))
        _replace(self._patches, psycopg.Cursor, "stream", lambda original: self._stream(original, probe))
        _replace(self._patches, psycopg.AsyncCursor, "stream", lambda original: self._async_stream(original, probe))
        _replace(self._patches, psycopg.Connection, "commit", lambda original: self._commit(original, probe))
        _replace(self._patches, psycopg.AsyncConnection, "commit", lambda original: self._async_commit(original, probe))
        _replace(self._patches, psycopg.Transaction, "__exit__", lambda original: self._exit(original, probe))
        _replace(self._patches, psycopg.AsyncTransaction, "__aexit__", lambda original: self._aexit(original, probe))

    def remove(self) -> None:
        self._patches.undo()

    def error(self) -> BaseException:
        import psycopg

        error: BaseException = psycopg.OperationalError("the database is not available")
        return error

    def text(self, statement: Any, connection: Any) -> str:
        if isinstance(statement, bytes):
            return statement.decode("utf-8", "replace")
        return str(statement.as_string(connection)) if hasattr(statement, "as_string") else str(statement)

    def open(self, connection: Any) -> bool:
        return not connection.closed and bool(connection.pgconn.transaction_status)

    def begins(self, connection: Any, verb: str) -> bool:
        return not connection.autocommit

    def key(self, connection: Any) -> tuple[object, str]:
        info = connection.info
        return ("postgresql", info.host, info.port, info.dbname), info.dbname

    def single(self, key: object) -> bool:
        return False

    def foreign(self, connection: Any) -> bool:
        return False

    def look(self, connection: Any) -> Look:
        return ServerLook(*server_of(connection))

    def locked(self, connection: Any) -> None:
        """The driver knows of open transactions by itself."""

    def query(self, connection: Any) -> Query | None:
        from psycopg.rows import tuple_row

        return None if hasattr(connection, "__aenter__") else cursor_query(lambda: connection.cursor(row_factory=tuple_row))

    def blocks(self, key: object) -> bool:
        return False

    def release(self, connection: Any) -> None:
        """Roll back and let go of advisory locks; cut the socket where that needs an event loop."""
        if hasattr(connection, "__aenter__"):
            connection.pgconn.finish()
            return
        connection.rollback()
        with connection.transaction():
            connection.execute("SELECT pg_advisory_unlock_all()")

    def _statement(self, original: Any, probe: "DBAPIProbe") -> Any:
        def execute(cursor: Any, query: Any, params: Any = None, **kwargs: Any) -> Any:
            with probe.statement(self, cursor.connection, query, _shown(params)):
                return original(cursor, query, params, **kwargs)

        return execute

    def _async_statement(self, original: Any, probe: "DBAPIProbe") -> Any:
        async def execute(cursor: Any, query: Any, params: Any = None, **kwargs: Any) -> Any:
            with probe.statement(self, cursor.connection, query, _shown(params)):
                return await original(cursor, query, params, **kwargs)

        return execute

    # What the task does while it copies, or goes through rows, is no part of the statement.

    def _copy(self, original: Any, probe: "DBAPIProbe") -> Any:
        @contextmanager
        def copy(cursor: Any, query: Any, params: Any = None, **kwargs: Any) -> Iterator[Any]:
            seen = probe.statement(self, cursor.connection, query, _shown(params), atomic=False)
            with seen, original(cursor, query, params, **kwargs) as copying:
                yield copying

        return copy

    def _async_copy(self, original: Any, probe: "DBAPIProbe") -> Any:
        @asynccontextmanager
        async def copy(cursor: Any, query: Any, params: Any = None, **kwargs: Any) -> AsyncIterator[Any]:
            with probe.statement(self, cursor.connection, query, _shown(params), atomic=False):
                async with original(cursor, query, params, **kwargs) as copying:
                    yield copying

        return copy

    def _stream(self, original: Any, probe: "DBAPIProbe") -> Any:
        def stream(cursor: Any, query: Any, params: Any = None, **kwargs: Any) -> Iterator[Any]:
            with probe.statement(self, cursor.connection, query, _shown(params), atomic=False):
                yield from original(cursor, query, params, **kwargs)

        return stream

    def _async_stream(self, original: Any, probe: "DBAPIProbe") -> Any:
        async def stream(cursor: Any, query: Any, params: Any = None, **kwargs: Any) -> AsyncIterator[Any]:
            with probe.statement(self, cursor.connection, query, _shown(params), atomic=False):
                async for row in original(cursor, query, params, **kwargs):
                    yield row

        return stream

    def _commit(self, original: Any, probe: "DBAPIProbe") -> Any:
        def commit(connection: Any) -> None:
            with probe.commit(self, connection, undo=connection.rollback):
                original(connection)

        return commit

    def _async_commit(self, original: Any, probe: "DBAPIProbe") -> Any:
        async def commit(connection: Any) -> None:
            with probe.commit(self, connection, undo=lambda: self.release(connection)):
                await original(connection)

        return commit

    def _exit(self, original: Any, probe: "DBAPIProbe") -> Any:
        def leave(transaction: Any, kind: Any, error: Any, trace: Any) -> Any:
            if kind is not None or transaction.force_rollback or not transaction._outer_transaction:
                return original(transaction, kind, error, trace)

            def undo() -> None:
                failure = RuntimeError("not committed")
                original(transaction, RuntimeError, failure, None)

            with probe.commit(self, transaction.connection, undo=undo):
                return original(transaction, kind, error, trace)

        return leave

    def _aexit(self, original: Any, probe: "DBAPIProbe") -> Any:
        async def leave(transaction: Any, kind: Any, error: Any, trace: Any) -> Any:
            if kind is not None or transaction.force_rollback or not transaction._outer_transaction:
                return await original(transaction, kind, error, trace)
            connection = transaction.connection
            with probe.commit(self, connection, undo=lambda: self.release(connection)):
                return await original(transaction, kind, error, trace)

        return leave


class PymysqlDriver:
    """Hooks pymysql."""

    family = "mysql"
    folds = False

    def __init__(self) -> None:
        self._patches = Patches()

    def install(self, probe: "DBAPIProbe") -> None:
        from pymysql.connections import Connection
        from pymysql.cursors import Cursor

        for name in ("execute", "executemany"):
            _replace(self._patches, Cursor, name, lambda original: self._statement(original, probe))
        _replace(self._patches, Cursor, "callproc", lambda original: self._call(original, probe))
        _replace(self._patches, Connection, "commit", lambda original: self._commit(original, probe))
        _replace(self._patches, Connection, "rollback", lambda original: self._rollback(original, probe))

    def remove(self) -> None:
        self._patches.undo()

    def error(self) -> BaseException:
        from pymysql.err import OperationalError

        error: BaseException = OperationalError(1205, "Lock wait timeout exceeded; try restarting transaction")
        return error

    def text(self, statement: Any, connection: Any) -> str:
        return statement.decode("utf-8", "replace") if isinstance(statement, bytes | bytearray) else str(statement)

    def open(self, connection: Any) -> bool:
        return connection.open and bool(connection.server_status & 1)

    def begins(self, connection: Any, verb: str) -> bool:
        return not connection.get_autocommit()

    def key(self, connection: Any) -> tuple[object, str]:
        name = connection.db.decode() if isinstance(connection.db, bytes) else str(connection.db)
        return ("mysql", connection.host, connection.port, name), name

    def single(self, key: object) -> bool:
        return False

    def foreign(self, connection: Any) -> bool:
        return False

    def look(self, connection: Any) -> Look:
        return ServerLook(*server_of(connection))

    def locked(self, connection: Any) -> None:
        """Note what pymysql does not read: that a query has begun a transaction."""
        if not connection.get_autocommit():
            connection.server_status |= 1

    def query(self, connection: Any) -> Query | None:
        from pymysql.cursors import Cursor

        return cursor_query(lambda: connection.cursor(Cursor))

    def blocks(self, key: object) -> bool:
        return False

    def release(self, connection: Any) -> None:
        """Roll back and let go of named locks; cut the socket where an unread result is in the way."""
        try:
            connection.rollback()
            connection.query("DO RELEASE_ALL_LOCKS()")
        except Exception:  # noqa: BLE001 - whatever is wrong with it, a dead process has no connection
            connection._force_close()

    def _statement(self, original: Any, probe: "DBAPIProbe") -> Any:
        def execute(cursor: Any, query: Any, args: Any = None) -> Any:
            with probe.statement(self, cursor.connection, query, _shown(args)):
                return original(cursor, query, args)

        return execute

    def _commit(self, original: Any, probe: "DBAPIProbe") -> Any:
        def commit(connection: Any) -> None:
            with probe.commit(self, connection, undo=connection.rollback):
                original(connection)

        return commit

    def _call(self, original: Any, probe: "DBAPIProbe") -> Any:
        def callproc(cursor: Any, procname: str, args: Any = ()) -> Any:
            with probe.statement(self, cursor.connection, f"CALL {procname}", _shown(args)):
                return original(cursor, procname, args)

        return callproc

    def _rollback(self, original: Any, probe: "DBAPIProbe") -> Any:
        def rollback(connection: Any) -> None:
            original(connection)
            probe.ended(connection)

        return rollback


def _shown(parameters: Any) -> Any:
    return parameters if isinstance(parameters, list | tuple | dict) else ()
