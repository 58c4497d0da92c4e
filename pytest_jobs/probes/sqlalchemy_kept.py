"""Databases and sessions of SQLAlchemy, kept as they are now and put back later."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sqlalchemy.orm.session import Session

from pytest_jobs.probes.kept_rows import Access, Enter, KeptRows, file_access, hurried, transaction
from pytest_jobs.probes.sqlalchemy_death import all_sessions
from pytest_jobs.probes.sqlalchemy_state import FAMILIES, Database, outer_connection, separate

if TYPE_CHECKING:
    from pytest_jobs.probes.sqlalchemy_databases import Databases

__all__ = ["Keeping"]


class Keeping:
    """The part of the probe that puts databases and sessions back."""

    _databases: "Databases"
    _undead: bool
    _kept: "_Kept | None" = None

    def keep(self) -> None:
        """Remember the rows of each database that is used, and what sessions hold."""
        if self._kept is None or self._kept.databases is not self._databases:
            self._kept = _Kept(self._databases)
        self._kept.keep()

    def restore(self) -> tuple[str, ...]:
        """Put them back; return one sentence for each part that could not be."""
        if self._kept is None:
            return ()
        self._undead = False
        return self._kept.restore()


class _Kept:
    """Owns what was in each database that is used, and in each session."""

    def __init__(self, databases: "Databases") -> None:
        self.databases = databases
        databases.on_close = self._close
        self._rows: dict[Any, KeptRows] = {}
        self._met: dict[Any, frozenset[str]] = {}
        self._sessions: WeakKeyDictionary[Session, tuple[bool, frozenset[Any]]] = WeakKeyDictionary()
        self._closing: list[Any] = []

    def keep(self) -> None:
        """Keep every database that was used so far, and each that is used from now on; what sessions hold."""
        self._met.clear()
        self._sessions.clear()
        for session in all_sessions():
            self._sessions[session] = session.in_transaction(), frozenset(session.identity_map.keys())
        for one in self.databases.all:
            self._meet(one)
        self.databases.on_use = self._meet

    def _meet(self, one: Any) -> None:
        if one in self._met:
            return
        self._met[one] = frozenset(one.written)
        family = FAMILIES.get(one.engine.dialect.name)
        if family is None:
            return
        if one not in self._rows:
            self._rows[one] = KeptRows(family, one.label, self._enter(one.database, family))
        one.database.run(self._rows[one].keep)

    def restore(self) -> tuple[str, ...]:
        """Put rows and sessions back."""
        self.databases.on_use = lambda one: None
        for session in all_sessions():
            with suppress(Exception):
                self._put_back(session)
        left: list[str] = []
        for one, written in self._met.items():
            if one in self._rows:
                left += one.database.run(self._rows[one].restore)
            elif one.written - written:
                left.append(f"the rows of {one.label} could not be put back: {one.engine.dialect.name} is not supported")
            one.written.intersection_update(written)
        return tuple(left)

    def _close(self) -> None:
        for connection in self._closing:
            with suppress(Exception):
                connection.close()
        self._closing.clear()

    def _put_back(self, session: Session) -> None:
        """End the transaction that was begun since, and forget the objects that were not there."""
        begun, known = self._sessions.get(session, (False, frozenset()))
        if session.in_transaction() and not begun and not session.get_bind().dialect.is_async:
            session.rollback()
        for key, loaded in list(session.identity_map.items()):
            if key not in known:
                session.expunge(loaded)
            elif loaded not in session.dirty:
                session.expire(loaded)

    def _enter(self, database: Database, family: str) -> Enter:
        engine = database.engine
        kept: list[Any] = []

        @contextmanager
        def enter() -> Iterator[Access]:
            over = outer_connection(engine)
            if over is not None:
                yield Access(over.connection.cursor, lambda: _nothing)
                return
            files = database.sqlite_files() if family == "sqlite" else {}
            if files.get("main"):
                with file_access(files) as access:
                    yield access
                return
            shared = database.shared()
            if shared is not None:
                yield Access(shared.cursor, lambda: _nothing if shared.in_transaction else shared.commit)
                return
            if family == "sqlite":
                raise LookupError("it is opened anew by each connection")
            if engine.dialect.is_async:
                raise LookupError("its driver is asynchronous")
            if not kept:
                kept.append(separate(engine))
                self._closing.append(kept[0])
                engine.dialect.set_isolation_level(kept[0].dbapi_connection, "AUTOCOMMIT")
                hurried(family, kept[0].cursor)
            yield Access(kept[0].cursor, lambda: transaction(kept[0].cursor))

        return enter


def _nothing() -> None:
    """Leave the commit to whoever began the transaction."""
