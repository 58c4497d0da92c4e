"""Connections that hardly wait for a lock while the one who holds it stands still."""

from contextlib import suppress
from types import MappingProxyType
from typing import Any
from weakref import WeakKeyDictionary

from pytest_jobs.probes.catalogs import Query

__all__ = ["Patience"]

# How to ask for the longest wait, how to set it, and the shortest one that the database knows.
WAITS = MappingProxyType({
    "sqlite": ("PRAGMA busy_timeout", "PRAGMA busy_timeout = {}", "50"),
    "postgresql": ("SHOW lock_timeout", "SET lock_timeout = '{}'", "50ms"),
    "mysql": ("SELECT @@SESSION.innodb_lock_wait_timeout", "SET SESSION innodb_lock_wait_timeout = {}", "1"),
})


class Patience:
    """Owns how long each hurried connection waited before."""

    def __init__(self) -> None:
        self._before: WeakKeyDictionary[Any, str] = WeakKeyDictionary()

    def __contains__(self, connection: Any) -> bool:
        return connection in self._before

    def hurry(self, connection: Any, family: str, query: Query) -> None:
        """Let a connection wait for locks as short as it can.

        Args:
            connection: What is remembered.
            family: `sqlite`, `postgresql` or `mysql`; any other is left alone.
            query: Runs a statement over it.
        """
        if family not in WAITS or connection in self._before:
            return
        ask, tell, shortest = WAITS[family]
        with suppress(Exception):
            before = str(query(ask)[1][0][0])
            if before != shortest and (before != "0" or family != "sqlite"):
                query(tell.format(shortest))
                self._before[connection] = before

    def relax(self, connection: Any, family: str, query: Query) -> None:
        """Let a connection wait as it did before."""
        before = self._before.pop(connection, None)
        if before is not None:
            with suppress(Exception):
                query(WAITS[family][1].format(before))
