"""What the death of a process does to its SQLAlchemy sessions and connections."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary, ref

from sqlalchemy import Connection
from sqlalchemy.orm import session as sessions
from sqlalchemy.pool import Pool
from sqlalchemy.util import greenlet_spawn

from pytest_jobs.probes.hurry import Patience
from pytest_jobs.probes.running import in_new_loop
from pytest_jobs.probes.sqlalchemy_state import FAMILIES
from pytest_jobs.probes.tables import cursor_query

__all__ = ["Checkouts", "Sessions", "depth", "is_commit", "roll_back", "session_owned"]


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

    def close(self, job: object, single: Callable[[Pool], bool]) -> None:
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
                    _run(held._pool._dialect, held.close)
                else:
                    held.invalidate()


class Sessions:
    """Owns the knowledge of which sessions, shared by test and task, a job has touched."""

    def __init__(self) -> None:
        self._before: WeakKeyDictionary[Any, object] = WeakKeyDictionary()

    def note(self) -> None:
        """Remember how each session stands."""
        self._before = WeakKeyDictionary({session: _standing(session) for session in _all()})

    def end(self, spared: Collection[Connection]) -> None:
        """Let each session forget what was done in it since, as it dies with its process.

        Args:
            spared: Connections in whose transactions the test has work of its own.
        """
        for session in _all():
            if self._before.get(session) == _standing(session):
                continue
            held = {one[0] for transaction in _transactions(session) for one in _held(transaction)}
            if session.is_active and held & set(spared):
                continue
            with suppress(Exception):
                dialect = next((conn.dialect for conn in held), None)
                _run(dialect, session.rollback)


def _all() -> list[Any]:
    return list(sessions._sessions.values())


def _standing(session: Any) -> object:
    touched = (session.identity_map._modified, session._new, session._deleted)
    return id(session._transaction), session.is_active, *(frozenset(map(id, states)) for states in touched)


def roll_back(connections: Iterable[Connection], savepoints: Mapping[Connection, int]) -> None:
    """Roll back what a killed task did on connections: its sessions, its savepoints, its transactions."""
    for conn in list(connections):
        with suppress(Exception):
            _run(conn.dialect, partial(_roll_back, conn, savepoints.get(conn)))


def _roll_back(conn: Connection, base: int | None) -> None:
    for session in _all():
        if any(held[0] is conn for transaction in _transactions(session) for held in _held(transaction)):
            session.rollback()
    while base is not None and depth(conn) > base:
        nested = conn.get_nested_transaction()
        if nested is None:
            break
        nested.rollback()


def _run(dialect: Any, work: Callable[[], Any]) -> None:
    if dialect is not None and dialect.is_async:
        in_new_loop(lambda: greenlet_spawn(work))
    else:
        work()


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
    for session in _all():
        for transaction in _transactions(session):
            if any(held[1] is nested for held in _held(transaction)):
                return not transaction.nested
    return base is None or depth(conn) <= base + 1


def session_owned(conn: Connection) -> bool:
    """Whether a session opened this connection by itself, so that its commit is a real one."""
    return any(
        held[0] is conn and held[3]
        for session in _all()
        for transaction in _transactions(session)
        for held in _held(transaction)
    )


def _transactions(session: Any) -> Iterator[Any]:
    transaction = session._transaction
    while transaction is not None:
        yield transaction
        transaction = transaction._parent


def _held(transaction: Any) -> list[Any]:
    return list(getattr(transaction, "_connections", {}).values())
