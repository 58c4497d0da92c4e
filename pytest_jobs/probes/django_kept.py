"""Django's databases, mail and caches in memory, kept as they are now and put back later."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.cache import caches
from django.db import connections

from pytest_jobs.probes.catalogs import CATALOGS
from pytest_jobs.probes.django_commits import raw
from pytest_jobs.probes.django_orm import OURS, Orm
from pytest_jobs.probes.django_services import Services
from pytest_jobs.probes.kept import Contents
from pytest_jobs.probes.kept_rows import Access, KeptRows, transaction

__all__ = ["KeptProject"]

SAVEPOINT = f"{OURS}fresh"
# Their keys are put back by the probe of the place they lie in, or are nowhere.
ELSEWHERE = ("redis", "db", "dummy")


class KeptProject:
    """Owns what the databases, the outbox and the caches of a project held."""

    def __init__(self, orm: Orm, services: Services) -> None:
        self._orm = orm
        self._services = services
        self._rows: dict[str, KeptRows] = {}
        self._used: list[str] = []
        self._inside: list[tuple[Any, list[Any]]] = []
        self._contents: list[Contents] = []
        self._written: dict[str, dict[str, None]] = {}
        self._keys: dict[str, Any] = {}
        self._outbox = False

    def keep(self) -> None:
        """Set a savepoint where the test's transaction is open; elsewhere keep the rows at the first use."""
        self._used, self._inside = [], []
        for db in connections.all(initialized_only=True):
            if db.connection is not None and db.in_atomic_block:
                raw(db, f"SAVEPOINT {SAVEPOINT}")
                self._inside.append((db, list(db.run_on_commit)))
        self._orm.on_use = self._use
        self._written = {alias: dict(tables) for alias, tables in self._orm.written.items()}
        self._keys = dict(self._services.written)
        outbox = getattr(sys.modules.get("django.core.mail"), "outbox", None)
        self._outbox = outbox is not None
        held = [outbox] if self._outbox else []
        for cache in caches.all(initialized_only=True):
            held += [part for part in (getattr(cache, "_cache", None), getattr(cache, "_expire_info", None)) if _plain(part)]
        self._contents = [Contents(part) for part in held]
        for content in self._contents:
            content.keep()

    def restore(self) -> tuple[str, ...]:
        """Put everything back; return one sentence for each part that could not be."""
        self._orm.on_use = _nothing
        left: list[str] = []
        for db, hooks in self._inside:
            left += _roll_back(db, hooks)
        for alias in self._used:
            left += self._rows[alias].restore()
        left += self._caches()
        for content in self._contents:
            left += content.restore()
        if not self._outbox:
            getattr(sys.modules.get("django.core.mail"), "outbox", []).clear()
        self._orm.written.clear()
        self._orm.written.update(self._written)
        self._services.written.clear()
        self._services.written.update(self._keys)
        return tuple(left)

    def _use(self, db: Any) -> None:
        """Keep the rows of a database that is used for the first time, outside of the test's transaction."""
        if db.alias in self._used or any(db is inside for inside, _ in self._inside) or db.vendor not in CATALOGS:
            return
        self._used.append(db.alias)
        if db.alias not in self._rows:
            self._rows[db.alias] = KeptRows(db.vendor, db.alias, lambda: _entered(db.alias))
        self._rows[db.alias].keep()

    def _caches(self) -> Iterator[str]:
        for subject in self._services.written.keys() - self._keys.keys():
            cache = self._services.written[subject][0]
            kind = type(cache).__module__.rpartition(".")[2]
            if kind not in ELSEWHERE and not _plain(getattr(cache, "_cache", None)):
                yield f"{subject} could not be put back: a {type(cache).__name__} does not let itself be copied"


@contextmanager
def _entered(alias: str) -> Iterator[Access]:
    db = connections[alias]
    db.ensure_connection()

    def cursor() -> Any:
        return db.connection.cursor()

    yield Access(cursor, lambda: _nothing if db.in_atomic_block else transaction(cursor))


def _roll_back(db: Any, hooks: list[Any]) -> tuple[str, ...]:
    try:
        raw(db, f"ROLLBACK TO SAVEPOINT {SAVEPOINT}")
        raw(db, f"RELEASE SAVEPOINT {SAVEPOINT}")
    except Exception as error:  # noqa: BLE001 - each driver has its own family of errors
        return (f"the rows of {db.alias} could not be put back: {error}",)
    db.run_on_commit = hooks
    db.needs_rollback = False
    return ()


def _plain(value: Any) -> bool:
    return isinstance(value, dict)


def _nothing(*_: Any) -> None:
    """Stand for what is not to be done."""
