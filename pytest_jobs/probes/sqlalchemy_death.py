"""What the death of a process does to its SQLAlchemy sessions and connections."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary, ref

from sqlalchemy.engine.base import Connection
from sqlalchemy.orm import session as sessions
from sqlalchemy.pool.base import Pool
from sqlalchemy.pool.impl import SingletonThreadPool, StaticPool
from sqlalchemy.util import greenlet_spawn

from pytest_jobs.probes.hurry import Patience
from pytest_jobs.probes.running import in_new_loop
from pytest_jobs.probes.sqlalchemy_state import FAMILIES
from pytest_jobs.probes.tables import cursor_query

__all__ = ["Checkouts", "all_sessions", "depth", "held_by", "is_commit", "locks_rows", "roll_back", "run_in", "session_owned", "single",
           "transactions_of"]  # fmt: skip

ANSWERS = 0.5  # seconds of real time in which a connection answers that is still alive


class Checkouts:
    """Owns the list of pooled connections that jobs took and did not give back."""

    def __init__(self) -> None:
        self._taken: dict[int, tuple[Any, Any]] = {}
        self._patience = Patience()
        self._hurried: WeakKeyDictionary[Any, str] = WeakKeyDictionary()

    def add(self, job: object, record: Any, proxy: Any) -> None:
        """Remember a connection that a job took from its pool."""
        self._taken[id(record)] = (job, ref(proxy))

    def discard(self, record: Any) -> None:
        """Forget a connection that went back."""
        self._taken.pop(id(record), None)

    def hurry(self, dbapi_connection: Any, record: Any, proxy: Any) -> None:
        """Let a connection hardly wait for locks until it goes back."""
        family = self._hurried[record] = FAMILIES.get(proxy._pool._dialect.name, "")
        self._change_wait(self._patience.hurry, dbapi_connection, record, family)

    def relax(self, dbapi_connection: Any, record: Any) -> None:
        """Let a connection that goes back wait as it did before."""
        family = self._hurried.pop(record, None)
        if family is not None and dbapi_connection is not None:
            self._change_wait(self._patience.relax, dbapi_connection, record, family)

    @staticmethod
    def _change_wait(change: Callable[..., None], dbapi_connection: Any, record: Any, family: str) -> None:
        change(record, family, cursor_query(dbapi_connection.cursor))
        with suppress(Exception):
            dbapi_connection.commit()

    def close(self, job: object) -> None:
        """Close what a job still holds, of every job when none is given; a shared connection is only given back."""
        for key, (owner, proxy) in list(self._taken.items()):
            if job is not None and owner is not job:
                continue
            self._taken.pop(key, None)
            held = proxy()
            if held is None or held.dbapi_connection is None:
                continue
            with suppress(Exception):
                if single(held._pool):
                    run_in(held._pool._dialect, held.close)
                else:
                    held.invalidate()


def roll_back(connections: Iterable[Connection], savepoints: Mapping[Connection, int]) -> None:
    """Roll back what a killed task did on connections: its sessions, its savepoints, its transactions."""
    for conn in list(connections):
        with suppress(Exception):
            run_in(conn.dialect, partial(_roll_back, conn, savepoints.get(conn)))


def _roll_back(conn: Connection, base: int | None) -> None:
    for session in all_sessions():
        if any(held[0] is conn for transaction in transactions_of(session) for held in held_by(transaction)):
            session.rollback()
    while base is not None and depth(conn) > base:
        nested = conn.get_nested_transaction()
        if nested is None:
            break
        nested.rollback()


def run_in(dialect: Any, work: Callable[[], Any]) -> None:
    """Do something with a connection or session from outside, on a dialect that may be asynchronous."""
    if dialect is not None and dialect.is_async:
        in_new_loop(partial(_in_time, work))
    else:
        work()


async def _in_time(work: Callable[[], Any]) -> None:
    """Give up what never answers: the thread of a connection of aiosqlite ends when it finds the killed task's loop closed."""
    task = asyncio.ensure_future(greenlet_spawn(work))
    done, _ = await asyncio.wait({task}, timeout=ANSWERS)
    if not done:
        task.cancel()
        await asyncio.wait({task}, timeout=ANSWERS)
        raise TimeoutError
    task.result()


def depth(conn: Connection) -> int:
    """Return how many savepoints are open, one within the other."""
    nested, count = conn.get_nested_transaction(), 0
    while nested is not None:
        nested, count = nested._previous_nested, count + 1
    return count


def is_commit(conn: Connection, base: int | None) -> bool:
    """Whether to release the innermost savepoint is what the task's code calls a commit.

    Args:
        conn: A connection whose transaction the test began.
        base: How many savepoints there were when the job made its first one, None when it made none.
    """
    nested = conn.get_nested_transaction()
    for session in all_sessions():
        for transaction in transactions_of(session):
            if any(held[1] is nested for held in held_by(transaction)):
                return not transaction.nested
    return base is None or depth(conn) <= base + 1


def session_owned(conn: Connection) -> bool:
    """Whether a session opened this connection by itself, so that its commit is a real one."""
    return any(
        held[0] is conn and held[3]
        for session in all_sessions()
        for transaction in transactions_of(session)
        for held in held_by(transaction)
    )


def single(pool: Pool) -> bool:
    """Whether a pool has one connection that all share, as databases in memory have."""
    return isinstance(pool, StaticPool | SingletonThreadPool)


def locks_rows(context: Any) -> bool:
    """Whether a statement asks for row locks, which SQLite's dialect leaves out."""
    compiled = getattr(context, "compiled", None)
    return getattr(getattr(compiled, "statement", None), "_for_update_arg", None) is not None


def all_sessions() -> list[Any]:
    """Return every session of the process."""
    return list(sessions._sessions.values())


def transactions_of(session: Any) -> Iterator[Any]:
    """Return the transactions that a session is in, innermost first."""
    transaction = session._transaction
    while transaction is not None:
        yield transaction
        transaction = transaction._parent


def held_by(transaction: Any) -> list[Any]:
    """Return what a session's transaction knows of its connections: the connection first, then its transaction."""
    return list(getattr(transaction, "_connections", {}).values())
