"""Which SQLAlchemy connections hold a transaction open in which a job wrote, or locks."""

from collections.abc import Iterator
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy.engine.base import Connection, Engine
from sqlalchemy.engine.interfaces import Dialect

from pytest_jobs.probes.base import NO_ROW_LOCKS, OF_THE_TEST, SINGLE, Held
from pytest_jobs.probes.sqlalchemy_death import single

__all__ = ["Open", "quieten"]


class Open:
    """Owns what is known of each connection's open transaction.

    Attributes:
        wrote: The tables that a job wrote to in it.
        ending: The connections in the middle of their commit.
    """

    def __init__(self) -> None:
        self.wrote: WeakKeyDictionary[Connection, dict[str, None]] = WeakKeyDictionary()
        self.ending: WeakSet[Connection] = WeakSet()
        self._of_jobs: WeakSet[Connection] = WeakSet()
        self._locking: WeakSet[Connection] = WeakSet()
        self._lockless: WeakSet[Connection] = WeakSet()

    def began(self, conn: Connection, of_a_job: bool) -> None:
        """Know that a transaction began."""
        (self._of_jobs.add if of_a_job else self._of_jobs.discard)(conn)

    def locks(self, conn: Connection, lockless: bool = False) -> None:
        """Know that a job locked rows; without a lock where the database knows none, but the one in production does."""
        self._locking.add(conn)
        if lockless:
            self._lockless.add(conn)

    def unlock(self, conn: Connection) -> None:
        """Know that the locks of a connection go with its commit."""
        self._locking.discard(conn)
        self._lockless.discard(conn)

    def end(self, conn: Connection) -> None:
        """Know that a transaction is over."""
        self.wrote.pop(conn, None)
        self.unlock(conn)

    def held(self) -> Iterator[Held]:
        """Yield the connections on which a job holds a transaction open in which it wrote, or locks."""
        locking = [conn for conn in self._locking if not conn.closed and conn.in_transaction()]
        # Nobody else can use a connection in the middle of its commit.
        ending = [conn for conn in self.ending if not single(conn.engine.pool)]
        for conn in dict.fromkeys([*self.wrote, *locking, *ending]):
            alone = NO_ROW_LOCKS if conn in self._lockless else "" if conn in self._of_jobs else OF_THE_TEST
            yield Held(conn, SINGLE if single(conn.engine.pool) else alone)


def quieten() -> None:
    """Take back the flags by which SQLAlchemy knows that there are listeners, where there are none left."""
    for target in (Engine, Dialect):
        if not any(getattr(target.dispatch, name)._clslevel.get(target) for name in target.dispatch._event_names):
            target._has_events = False
