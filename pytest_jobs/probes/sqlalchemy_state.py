"""Committed rows behind a SQLAlchemy engine, connection or session."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from types import MappingProxyType
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.engine.base import Connection, Engine
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.pool.impl import NullPool, SingletonThreadPool, StaticPool
from sqlalchemy.util import greenlet_spawn

from pytest_jobs.probes.catalogs import CATALOGS, Query, Table
from pytest_jobs.probes.running import in_new_loop
from pytest_jobs.probes.sqlitefile import attached_files, read_files
from pytest_jobs.probes.tables import Tables, Wrote, cursor_query
from pytest_jobs.world import Rows, Unreadable

__all__ = ["Database", "engine_rows", "outer_connection", "separate", "watch_bind"]

Seen = tuple[dict[str, Rows], tuple[Unreadable, ...]]
FAMILIES = MappingProxyType({
    "sqlite": "sqlite", "postgresql": "postgresql", "cockroachdb": "postgresql", "mysql": "mysql", "mariadb": "mysql",
})  # fmt: skip
BRIEF = MappingProxyType({
    "sqlite": "PRAGMA busy_timeout = 50",
    "postgresql": "SET lock_timeout = '50ms'",
    "mysql": "SET SESSION lock_wait_timeout = 1",
})


class Database:
    """Reads the tables of one engine over connections that disturb nobody."""

    def __init__(self, engine: Engine, probe: str = "sqlalchemy") -> None:
        self.engine = engine
        self._family = FAMILIES.get(engine.dialect.name, "")
        self._tables = Tables(CATALOGS[self._family] if self._family else _Inspected(engine), probe)
        self._files: dict[str, str] = {}
        self._kept: Any = None

    def close(self) -> None:
        """Close the connection that is kept for further reads."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    def read(self, wanted: Iterable[str] | None, over: Connection | None = None, wrote: Wrote | None = None) -> Seen:
        """Return the committed rows of the wanted tables, of all tables for None, or when any may have been written.

        Args:
            wanted: Subjects: table names, with their schema when that is not the default one.
            over: A connection whose open transaction belongs to the test: what it sees counts as committed.
            wrote: What statements wrote to and called.
        """
        if self._family == "sqlite" and over is None:
            files = self.sqlite_files()
            if files.get("main"):
                return read_files(files, self._tables, wanted, wrote)
            if not files:
                return {}, ()

        def work() -> Seen:
            with self._query(over) as query:
                return self._tables.read(query, wanted, wrote)

        seen: Seen = self.run(work)
        return seen

    def run(self, work: Callable[[], Any]) -> Any:
        """Do something with its connections, where they may be asynchronous."""
        return in_new_loop(lambda: greenlet_spawn(work)) if self.engine.dialect.is_async else work()

    def sqlite_files(self) -> dict[str, str]:
        """Return the engine's files; an empty path for a database in memory, nothing when there is none yet."""
        shared = self.shared()
        if shared is not None:
            files: dict[str, str] = self.run(lambda: attached_files(cursor_query(shared.cursor)))
            return files
        if isinstance(self.engine.pool, StaticPool | SingletonThreadPool):
            return {}
        if not self._files:
            self._files = self.run(self._opened_files)
        return self._files

    def _opened_files(self) -> dict[str, str]:
        with closing(separate(self.engine)) as connection:
            return attached_files(cursor_query(connection.cursor))

    def shared(self) -> Any:
        """Return the DB-API connection that everybody shares, where the pool has just one."""
        pool = self.engine.pool
        if isinstance(pool, StaticPool):
            record = pool.__dict__.get("connection")
        elif isinstance(pool, SingletonThreadPool):
            current = getattr(pool._conn, "current", None)
            record = (current() if current is not None else None) or next(iter(pool._all_conns), None)
        else:
            return None
        return record.dbapi_connection if record is not None else None

    @contextmanager
    def _query(self, over: Connection | None) -> Iterator[Query]:
        if over is not None:
            yield _guarded(cursor_query(over.connection.cursor), self._family)
        elif (shared := self.shared()) is not None and self._family == "sqlite":
            yield cursor_query(shared.cursor)
        elif self._family in {"postgresql", "mysql"} and not self.engine.dialect.is_async:
            yield self._kept_query()
        else:
            with closing(separate(self.engine)) as connection:
                self._be_brief(connection)
                yield cursor_query(connection.cursor)

    def _kept_query(self) -> Query:
        """Keep one idle connection to a server: opening one costs more than reading does."""
        if self._kept is not None:
            query = cursor_query(self._kept.cursor)
            try:
                query("SELECT 1")
            except Exception:  # noqa: BLE001 - the server went away: look again over a new connection
                self._kept.invalidate()
                self._kept = None
            else:
                return query
        self._kept = separate(self.engine)
        self._be_brief(self._kept)
        return cursor_query(self._kept.cursor)

    def _be_brief(self, connection: Any) -> None:
        """Neither wait for locks nor leave a transaction open."""
        brief = BRIEF.get(self._family)
        if brief is None:
            return
        if self._family != "sqlite":
            self.engine.dialect.set_isolation_level(connection.dbapi_connection, "AUTOCOMMIT")
        with closing(connection.cursor()) as cursor:
            cursor.execute(brief)


def separate(engine: Engine) -> Any:
    """Open a connection as the engine's pool would, outside of the pool, which may be exhausted."""
    return _outside(engine).connect()


def _outside(engine: Engine) -> NullPool:
    return NullPool(engine.pool._creator, dialect=engine.dialect, _dispatch=engine.pool.dispatch)


def _guarded(query: Query, family: str) -> Query:
    """Keep a failing look from aborting the transaction it looks from."""
    if family != "postgresql":
        return query

    def guarded(statement: str) -> Any:
        query("SAVEPOINT jobs_look")
        try:
            found = query(statement)
        except Exception:
            query("ROLLBACK TO SAVEPOINT jobs_look")
            raise
        finally:
            query("RELEASE SAVEPOINT jobs_look")
        return found

    return guarded


class _Inspected:
    """The catalog of any database that SQLAlchemy can reflect."""

    def __init__(self, engine: Engine) -> None:
        self._engine = Engine(_outside(engine), engine.dialect, engine.url)

    def quote(self, name: str) -> str:
        return str(self._engine.dialect.identifier_preparer.quote(name))

    def signature(self, query: Query, schemas: frozenset[str]) -> object:
        inspector = inspect(self._engine)
        there = schemas.intersection(inspector.get_schema_names()) - {inspector.default_schema_name} if schemas else ()
        return tuple((schema, name) for schema in (None, *sorted(there)) for name in inspector.get_table_names(schema))

    def tables(self, query: Query, signature: Any) -> Iterator[Table]:
        inspector = inspect(self._engine)
        for schema, name in signature:
            key = tuple(inspector.get_pk_constraint(name, schema)["constrained_columns"])
            columns = inspector.get_columns(name, schema)
            made = {each["name"] for each in columns if each.get("autoincrement") is True or each.get("identity")}
            references = {
                column: ".".join(filter(None, (link["referred_schema"], link["referred_table"])))
                for link in inspector.get_foreign_keys(name, schema)
                for column in link["constrained_columns"]
            }
            names = tuple(column["name"] for column in columns)
            subject = f"{schema}.{name}" if schema else name
            yield Table(schema, name, subject, names, key, len(key) == 1 and key[0] in made, references)

    def routines(self, query: Query) -> frozenset[str]:
        return frozenset()


def engine_rows(engine: Engine) -> dict[str, Rows]:
    """Return the committed rows of every table of an engine, by subject; what cannot be read is left out."""
    return Database(getattr(engine, "sync_engine", engine)).read(None)[0]


def outer_connection(engine: Engine) -> Connection | None:
    """Return the connection in whose transaction a test wraps its sessions, None when there is none."""
    from sqlalchemy.orm import session as sessions

    for session in list(getattr(sessions, "_sessions", {}).values()):
        bind = session.bind
        if isinstance(bind, Connection) and bind.engine.pool is engine.pool and _usable(bind):
            return bind
    return None


def _usable(connection: Connection) -> bool:
    return not connection.closed and not connection.invalidated and connection.in_transaction()


class _BindLook:
    """Reads every table behind what a test handed over."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._databases: dict[int, Database] = {}

    def __call__(self) -> tuple[Mapping[str, Any], tuple[Unreadable, ...]]:
        state: dict[str, Any] = {}
        unreadable: tuple[Unreadable, ...] = ()
        for bind in _binds(self._source):
            engine = bind.engine
            database = self._databases.setdefault(id(engine), Database(engine))
            over = bind if isinstance(bind, Connection) and _usable(bind) else outer_connection(engine)
            found, failed = database.read(None, over)
            state |= found
            unreadable += failed
        return state, unreadable

    def close(self) -> None:
        for database in self._databases.values():
            database.close()


def watch_bind(source: Any) -> Callable[[], tuple[Mapping[str, Any], tuple[Unreadable, ...]]]:
    """Return what reads every table behind an engine, a connection, a session or what makes sessions."""
    return _BindLook(source)


def _binds(source: Any) -> list[Any]:
    for inner in ("sync_engine", "sync_connection", "sync_session"):
        source = getattr(source, inner, source)
    if isinstance(source, Engine | Connection):
        return [source]
    configured = getattr(source, "kw", {}).get("bind")
    if configured is not None:
        return _binds(configured)
    session = source() if callable(source) else source
    session = getattr(session, "sync_session", session)
    try:
        return [session.get_bind()]
    except UnboundExecutionError:
        found = list(dict.fromkeys(getattr(session, "_Session__binds", {}).values()))
        if not found:
            raise
        return found
