"""What a task writes through SQLAlchemy, as it writes it, and the rows that it leaves."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import event
from sqlalchemy.engine.base import Connection, Engine  # where no stand-in of a test is
from sqlalchemy.pool.base import Pool

from pytest_jobs.probes.base import NO_ROW_LOCKS, SINGLE, Recorder
from pytest_jobs.probes.sqlalchemy_databases import Databases
from pytest_jobs.probes.sqlalchemy_death import (
    Checkouts,
    depth,
    is_commit,
    locks_rows,
    roll_back,
    session_owned,
    single,
)
from pytest_jobs.probes.sqlalchemy_errors import unavailable
from pytest_jobs.probes.sqlalchemy_kept import Keeping
from pytest_jobs.probes.sqlalchemy_open import Open, quieten
from pytest_jobs.probes.sqlalchemy_sessions import Sessions
from pytest_jobs.probes.sqlalchemy_state import engine_rows
from pytest_jobs.probes.sqltext import ENDS, LOCK, Statements, Write, shortened
from pytest_jobs.records import Effect
from pytest_jobs.world import Rows, Unreadable

__all__ = ["SQLAlchemyProbe", "engine_rows"]

UNREADABLE = (
    "the task writes in a transaction that the test began and wrote in, so a kill cannot undo the task's part alone: "
    "commit in the test before the job runs"
)


class SQLAlchemyProbe(Keeping):
    """Sees every engine of the process, sync and async, Core and ORM."""

    def __init__(self) -> None:
        self.name = "sqlalchemy"
        self._recorder = Recorder()
        self._listeners: list[tuple[Any, str, Callable[..., Any]]] = []
        self._patched: dict[int, Any] = {}
        self._local = threading.local()
        self._statements = {False: Statements(), True: Statements(fold=True)}
        self._reset()

    def _reset(self) -> None:
        self._databases = Databases()
        self._checkouts = Checkouts()
        self._sessions = Sessions()
        self._begun: WeakSet[Connection] = WeakSet()
        self._wrote: WeakSet[Connection] = WeakSet()
        self._test_wrote: WeakSet[Connection] = WeakSet()
        self._open = Open()
        self._savepoints: WeakKeyDictionary[Connection, int] = WeakKeyDictionary()
        self._undead = False
        self._test_lost = False

    def install(self, recorder: Recorder) -> None:
        """Listen to every engine and pool, present and future."""
        self._recorder = recorder
        self._reset()
        recorder.holds[self.name] = lambda: self._open.held()
        self._sessions.install(recorder)
        recorder.nests[self.name] = self._sessions.apart
        recorder.locks[self.name] = lambda: self._databases.locked()
        for target, name, listener in (
            (Engine, "do_execute", self._execute),
            (Engine, "do_executemany", self._executemany),
            (Engine, "do_execute_no_params", self._execute_no_params),
            (Engine, "handle_error", self._error),
            (Engine, "engine_connect", self._connected),
            (Engine, "begin", self._began),
            (Engine, "commit", self._committing),
            (Engine, "rollback", self._ended),
            (Engine, "savepoint", self._savepoint),
            (Pool, "checkout", self._checkout),
            (Pool, "checkin", self._checkin),
        ):
            event.listen(target, name, listener)
            self._listeners.append((target, name, listener))

    def remove(self) -> None:
        """Stop listening."""
        self._recorder.holds.pop(self.name, None)
        self._recorder.locks.pop(self.name, None)
        self._recorder.nests.pop(self.name, None)
        for target, name, listener in self._listeners:
            event.remove(target, name, listener)
        for dialect in self._patched.values():
            del dialect.do_commit
        quieten()
        self._listeners = []
        self._patched = {}
        self._sessions.remove()
        self._databases.close()
        self._reset()

    def begin(self) -> None:
        """Note which sessions the test left how, before the worker runs a job."""
        if self._recorder.sink is None:
            self._sessions.note()
            self._test_lost = False

    def read(self, wanted: frozenset[str]) -> tuple[dict[str, Rows], tuple[Unreadable, ...]]:
        """Return the committed rows of each table that a job wrote to, and of the wanted ones."""
        if not wanted and not self._databases.written:
            return {}, ()
        with self._recorder.paused():
            state, unreadable = self._databases.read(wanted, self._outer)
        if self._undead:
            unreadable += (Unreadable(self.name, UNREADABLE),)
        return state, unreadable

    def forget(self) -> None:
        """Roll back and close what a killed task left open."""
        with self._recorder.paused():
            own = {conn for conn in self._wrote if conn not in self._begun and conn in self._test_wrote}
            self._undead = self._undead or bool(own) or self._test_lost
            self._sessions.end(own)
            roll_back(self._wrote - own, self._savepoints)
            self._checkouts.close(self._recorder.sink)
        self._wrote.clear()

    # Statements

    def _execute(self, cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
        return self._write(
            statement, parameters, context, lambda: context.dialect.do_execute(cursor, statement, parameters, context)
        )

    def _executemany(self, cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
        return self._write(
            statement,
            parameters,
            context,
            lambda: context.dialect.do_executemany(cursor, statement, parameters, context),
        )

    def _execute_no_params(self, cursor: Any, statement: str, context: Any) -> bool:
        return self._write(
            statement, (), context, lambda: context.dialect.do_execute_no_params(cursor, statement, context)
        )

    def _write(self, statement: str, parameters: Any, context: Any, run: Callable[[], Any]) -> bool:
        """Run a statement that writes; leave any other to SQLAlchemy."""
        dialect = context.dialect
        first, writes, calls = self._statements[dialect.name == "postgresql"].read(statement)
        if calls and dialect.name != "sqlite" and self._recorder.active:
            self._databases.called(context.engine, calls)
        lockless = dialect.name == "sqlite" and locks_rows(context)
        if self._recorder.rival is not None:
            alone = SINGLE if single(context.engine.pool) else NO_ROW_LOCKS if lockless else ""
            self._recorder.rival.uses(context.root_connection, alone)
        if lockless and self._recorder.sink is not None:
            self._open.locks(context.root_connection, lockless=True)
        if not writes and first not in ENDS and first != LOCK:
            return False
        conn = context.root_connection
        if self._recorder.sink is None:
            self._of_the_test(conn, first, writes)
            return False
        if first == LOCK:
            self._open.locks(conn)
            return False
        if not writes:
            return self._ends(conn, first, run)
        tables = [self._databases.subject(conn.engine, write.table) for write in writes]
        self._databases.wrote(conn.engine, (write.table for write in writes))
        pending = not conn._is_autocommit_isolation()
        if pending:
            self._open.wrote.setdefault(conn, {}).update(dict.fromkeys(tables))
        self._wrote.add(conn)
        table = tables[-1]
        detail = shortened(parameters, statement)
        effect = Effect("sql", table, writes[-1].label(table), safe=True, detail=detail, pending=pending)
        with self._recorder.doing(effect, lambda: unavailable(dialect)):
            run()
        return True

    def _of_the_test(self, conn: Connection, first: str, writes: tuple[Write, ...]) -> None:
        if writes:
            self._test_wrote.add(conn)
        elif first in {"RELEASE", "COMMIT", "ROLLBACK"}:
            self._test_wrote.discard(conn)

    def _ends(self, conn: Connection, first: str, run: Callable[[], Any]) -> bool:
        """A savepoint that is released in the test's own transaction is the task's commit."""
        released = first == "RELEASE" and conn not in self._begun
        if first != "COMMIT" and not (released and is_commit(conn, self._savepoints.get(conn))):
            return False
        nested = conn.get_nested_transaction()
        with self._commit(conn, lambda: nested and conn.dialect.do_rollback_to_savepoint(conn, nested._savepoint)):
            run()
        self._savepoints.pop(conn, None)
        return True

    # Transactions

    @contextmanager
    def _commit(self, conn: Connection, undo: Callable[[], Any]) -> Iterator[None]:
        """Report a commit; one that does not reach the server leaves nothing behind, as a lost connection would."""
        tables = list(self._open.wrote.get(conn, ()))
        if not tables:
            yield
            return
        effect = Effect("sql", tables[0], "COMMIT", safe=True, detail=", ".join(tables))
        reached = False
        self._open.ending.add(conn)
        try:
            with self._recorder.doing(effect, lambda: unavailable(conn.dialect)):
                reached = True
                yield
                self._open.wrote.pop(conn, None)
        except BaseException:
            self._open.wrote.pop(conn, None)
            if not reached:
                with self._recorder.paused(), suppress(Exception):
                    undo()
            raise
        finally:
            self._open.ending.discard(conn)

    def _committing(self, conn: Connection) -> None:
        """Stand before the driver's commit: the event itself comes before what SQLAlchemy wraps errors of."""
        self._begun.discard(conn)
        self._test_wrote.discard(conn)
        self._savepoints.pop(conn, None)
        self._open.unlock(conn)
        if conn not in self._open.wrote:
            return
        self._local.committing = conn
        dialect = conn.dialect
        if id(dialect) not in self._patched:
            self._patched[id(dialect)] = dialect
            dialect.do_commit = self._around_commit(dialect.do_commit)

    def _around_commit(self, do_commit: Callable[[Any], None]) -> Callable[[Any], None]:
        def committing(dbapi_connection: Any) -> None:
            conn = self._local.__dict__.pop("committing", None)
            if conn is None:
                do_commit(dbapi_connection)
                return
            with self._commit(conn, lambda: conn.dialect.do_rollback(dbapi_connection)):
                do_commit(dbapi_connection)

        return committing

    def _began(self, conn: Connection) -> None:
        self._open.began(conn, self._recorder.sink is not None)
        if self._recorder.sink is not None:
            self._begun.add(conn)

    def _ended(self, conn: Connection) -> None:
        if self._recorder.sink is not None and conn in self._test_wrote:
            self._test_lost = True
        self._open.end(conn)
        self._savepoints.pop(conn, None)
        for group in (self._begun, self._wrote, self._test_wrote):
            group.discard(conn)

    def _savepoint(self, conn: Connection, name: str) -> None:
        if self._recorder.active and conn not in self._savepoints:
            self._savepoints[conn] = depth(conn)

    # Connections

    def _connected(self, conn: Connection) -> None:
        if self._recorder.sink is None or self._recorder.active:
            self._databases.of(conn.engine)

    def _checkout(self, dbapi_connection: Any, record: Any, proxy: Any) -> None:
        if not self._recorder.active:
            return
        self._checkouts.add(self._recorder.sink, record, proxy)
        if self._recorder.hurried:
            with self._recorder.paused():
                self._checkouts.hurry(dbapi_connection, record, proxy)

    def _checkin(self, dbapi_connection: Any, record: Any) -> None:
        self._checkouts.discard(record)
        with self._recorder.paused():
            self._checkouts.relax(dbapi_connection, record)

    def _error(self, context: Any) -> None:
        """Keep a kill from closing the only connection of a database in memory, the test's own, or one that two deliveries use."""
        conn = context.connection
        if isinstance(context.original_exception, Exception) or conn is None:
            return
        if single(conn.engine.pool) or conn not in self._begun or self._recorder.rival is not None:
            context.is_disconnect = False

    def _outer(self, engine: Engine) -> Connection | None:
        """Return the connection whose open transaction the test began and the job wrote in."""
        for conn in self._wrote:
            of_the_test = conn not in self._begun and not conn.closed and conn.in_transaction()
            if of_the_test and conn.engine.pool is engine.pool and not session_owned(conn):
                return conn
        return None
