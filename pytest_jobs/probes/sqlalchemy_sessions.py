"""SQLAlchemy sessions that test and tasks, or two tasks, would share because they run in one process."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy.engine.base import Connection
from sqlalchemy.util import ScopedRegistry, ThreadLocalRegistry

from pytest_jobs.probes.base import Patches, Recorder
from pytest_jobs.probes.sqlalchemy_death import all_sessions, held_by, run_in, transactions_of

__all__ = ["Sessions"]


class Sessions:
    """Owns the knowledge of which sessions, shared by test and task, a job has touched."""

    def __init__(self) -> None:
        self._before: WeakKeyDictionary[Any, object] = WeakKeyDictionary()
        self._registries: dict[int, Any] = {}
        self._patches = Patches()

    def install(self, recorder: Recorder) -> None:
        """See which scoped sessions jobs use."""

        def make(original: Any) -> Any:
            def __call__(registry: Any) -> Any:
                if recorder.sink is not None:
                    self._registries[id(registry)] = registry
                return original(registry)

            return __call__

        for kind in (ScopedRegistry, ThreadLocalRegistry):
            self._patches.replace(kind, "__call__", make)

    def remove(self) -> None:
        """Leave them as they were."""
        self._patches.undo()

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Give a job that runs inside another one scoped sessions of its own, as another worker has them."""
        kept = [(registry, _taken(registry)) for registry in self._registries.values()]
        try:
            yield
        finally:
            for registry, session in kept:
                own = _taken(registry)
                if own is not None:
                    with suppress(Exception):
                        run_in(_dialect(own), getattr(own, "sync_session", own).close)
                if session is not None:
                    registry.set(session)

    def note(self) -> None:
        """Remember how each session stands."""
        self._before = WeakKeyDictionary({session: _standing(session) for session in all_sessions()})

    def end(self, spared: Collection[Connection]) -> None:
        """Let each session forget what was done in it since, as it dies with its process.

        Args:
            spared: Connections in whose transactions the test has work of its own.
        """
        for session in all_sessions():
            if self._before.get(session) == _standing(session):
                continue
            held = {one[0] for transaction in transactions_of(session) for one in held_by(transaction)}
            if session.is_active and held & set(spared):
                continue
            with suppress(Exception):
                run_in(_dialect(session), session.rollback)


def _taken(registry: Any) -> Any:
    """Take the present session out of a scoped session, None when it has none."""
    if not registry.has():
        return None
    session = registry()
    registry.clear()
    return session


def _dialect(session: Any) -> Any:
    inner = getattr(session, "sync_session", session)
    held = (one[0] for transaction in transactions_of(inner) for one in held_by(transaction))
    return next((conn.dialect for conn in held), None)


def _standing(session: Any) -> object:
    touched = (session.identity_map._modified, session._new, session._deleted)
    return id(session._transaction), session.is_active, *(frozenset(map(id, states)) for states in touched)
