"""What `jobs.watch` accepts, and the probe it makes of it."""

import inspect
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, MutableSequence, MutableSet
from contextlib import nullcontext
from pathlib import Path, PurePath
from types import FrameType, FunctionType, ModuleType
from typing import Any

from pytest_jobs.errors import UsageError
from pytest_jobs.probes.base import Probe, Recorder
from pytest_jobs.probes.kept import Calls, Contents, Files, Keeper
from pytest_jobs.probes.plain import loaded, mock_calls, plain
from pytest_jobs.probes.running import finish
from pytest_jobs.world import Rows, Unreadable

__all__ = ["Look", "Seen", "watched"]

Seen = tuple[Mapping[str, Any], tuple[Unreadable, ...]]
Look = Callable[[], Seen]
ALLOWED = (
    "a callable without arguments, a SQLAlchemy engine or session, a sqlite3, psycopg or pymysql connection, "
    "a Django model or queryset, a Redis client, a pathlib.Path, a Mock, a list, a dict or a set"
)


class _Watched:
    """Owns one source that a test asked to be compared; it is always read in full."""

    def __init__(self, subject: str, look: Look, prefix: str | None = None, keeper: Keeper | None = None) -> None:
        self.name = "watch"
        self.subject = subject
        self._look = look
        self._prefix = prefix
        self._keeper = keeper
        self._before: Any = None
        self._recorder: Recorder | None = None

    def __repr__(self) -> str:
        return f"<watch {self.subject}>"

    def install(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def remove(self) -> None:
        self._recorder = None
        getattr(self._look, "close", lambda: None)()

    def forget(self) -> None:
        """A watched source belongs to the test, so nothing of it dies with a task."""

    def keep(self) -> None:
        self._before = self.read(frozenset())[0]
        if self._keeper is not None:
            self._keeper.keep()

    def restore(self) -> tuple[str, ...]:
        return self._keeper.restore() if self._keeper is not None else ()

    def unlike(self) -> tuple[str, ...]:
        """Say that it is not what it was when it was kept."""
        same = self.read(frozenset())[0] == self._before
        return () if same else (f"{self.subject}, which is watched, is not what it was",)

    def read(self, wanted: frozenset[str]) -> Seen:
        with self._recorder.paused() if self._recorder is not None else nullcontext():
            try:
                state, unreadable = self._look()
                return _prefixed(state, self._prefix), unreadable
            except Exception as error:  # noqa: BLE001 - the user's code or a library of theirs, in any state
                reason = f"{self.subject} could not be read: {type(error).__name__}: {error}"
                return {}, (Unreadable("watch", reason),)


def watched(source: Any, *, name: str | None, caller: FrameType | None) -> Probe:
    """Make the probe for `jobs.watch(source)`.

    Args:
        source: What to look at.
        name: What to call it; default: the name that the caller has for it.
        caller: The frame of the call of `jobs.watch`, where the name is looked for.

    Raises:
        UsageError: When the plugin does not know how to look at it.
    """
    if name is not None and (not isinstance(name, str) or not name):
        raise UsageError(f"jobs.watch was given name={name!r}; allowed is a text that is not empty")
    mock = _mock_of(source)
    if mock is not None:
        subject = name or _mock_name(mock) or _found_name(source, caller) or "mock"
        return _Watched(subject, _one(subject, lambda: mock_calls(mock)), keeper=Calls(mock))
    database = _database(source, name, caller)
    if database is not None:
        return database
    if isinstance(source, PurePath):
        return _path(Path(source), name)
    if isinstance(source, MutableMapping | MutableSequence | MutableSet | deque) and not isinstance(source, bytearray):
        subject = name or _found_name(source, caller) or type(source).__name__
        return _Watched(subject, _one(subject, lambda: plain(source)), keeper=Contents(source))
    if callable(source) and not isinstance(source, type):
        return _callable(source, name, caller)
    raise UsageError(f"jobs.watch was given {_described(source)}; allowed are {ALLOWED}")


def _one(subject: str, value: Callable[[], Any]) -> Look:
    return lambda: ({subject: value()}, ())


def _mock_of(source: Any) -> Any:
    kinds = loaded("unittest.mock", "NonCallableMock")
    if isinstance(source, kinds):
        return source
    inner = source.__dict__.get("mock") if isinstance(source, FunctionType) else None
    return inner if isinstance(inner, kinds) else None


def _mock_name(mock: Any) -> str | None:
    """Return the dotted name that a mock prints with, None when it has none."""
    found = re.search(r"<\w+ name='([^']+)'", repr(mock))
    return found[1] if found else None


def _database(source: Any, name: str | None, caller: FrameType | None) -> Probe | None:
    label = name or _found_name(source, caller) or type(source).__name__
    if loaded("sqlalchemy", "Engine") and _from_sqlalchemy(source):
        from pytest_jobs.probes.sqlalchemy_state import watch_bind

        return _Watched(label, watch_bind(source), name)
    drivers = loaded("sqlite3", "Connection") + loaded("psycopg", "Connection", "AsyncConnection")
    if isinstance(source, drivers + loaded("pymysql.connections", "Connection")):
        from pytest_jobs.probes.dbapi_state import watch_connection

        return _Watched(label, watch_connection(source), name)
    if isinstance(source, (*loaded("redis", "Redis"), *loaded("redis.asyncio", "Redis"))):
        from pytest_jobs.probes.redis_state import client_state

        return _Watched(label, lambda: client_state(source, name or "redis"))
    return _django(source, name)


def _from_sqlalchemy(source: Any) -> bool:
    kinds = loaded("sqlalchemy", "Engine", "Connection")
    kinds += loaded("sqlalchemy.ext.asyncio", "AsyncEngine", "AsyncConnection", "AsyncSession")
    kinds += loaded("sqlalchemy.ext.asyncio", "async_sessionmaker", "async_scoped_session")
    return isinstance(source, kinds + loaded("sqlalchemy.orm", "Session", "scoped_session", "sessionmaker"))


def _django(source: Any, name: str | None) -> Probe | None:
    models = loaded("django.db.models", "Model")
    if isinstance(source, type) and models and issubclass(source, models):
        return _Watched(name or source.__name__, _rows_of("model_rows", lambda: source, name))
    if isinstance(source, loaded("django.db.models", "QuerySet", "Manager")):
        return _Watched(name or source.model.__name__, _rows_of("queryset_rows", lambda: source.all(), name))
    return None


def _rows_of(function: str, source: Callable[[], Any], name: str | None) -> Look:
    def look() -> Seen:
        from pytest_jobs.probes import django

        subject, rows = getattr(django, function)(source())
        return {name or subject: rows}, ()

    return look


def _prefixed(state: Mapping[str, Any], name: str | None) -> Mapping[str, Any]:
    """Put the name that the test gave in front of each table, so that two databases can have the same tables."""
    if name is None:
        return state
    found = {}
    for subject, value in state.items():
        if isinstance(value, Rows):
            references = {column: f"{name}.{table}" for column, table in value.references.items()}
            value = Rows(value.key, value.rows, value.surrogate, references, value.places)
        found[f"{name}.{subject}"] = value
    return found


def _path(path: Path, name: str | None) -> Probe:
    from pytest_jobs.probes.tree import is_sqlite, tree_state

    def look() -> Seen:
        if not is_sqlite(path):
            return tree_state(path, name)
        from pytest_jobs.probes.sqlitefile import file_state

        return file_state(path, name)

    return _Watched(name or f"file:{path.name}", look, keeper=None if is_sqlite(path) else Files(path))


def _callable(source: Callable[[], Any], name: str | None, caller: FrameType | None) -> Probe:
    try:
        inspect.signature(source).bind()
    except TypeError as error:
        raise UsageError(f"jobs.watch was given {_described(source)}, which cannot be called: {error}") from None
    except ValueError:
        pass
    own = getattr(getattr(source, "func", source), "__name__", None)
    if own == "<lambda>" or own is None:
        own = _found_name(source, caller) or ("lambda" if own else type(source).__name__)
    subject = name or own
    held = getattr(source, "__self__", None)
    keeper = Contents(held) if isinstance(held, list | dict | set | deque) else None
    return _Watched(subject, _one(subject, lambda: plain(finish(source()))), keeper=keeper)


def _found_name(source: Any, caller: FrameType | None) -> str | None:
    """Return the caller's name for an object: a variable, else an attribute of one."""
    if caller is None:
        return None
    for names in (caller.f_locals, caller.f_globals):
        for found, value in names.items():
            if value is source and not found.startswith(("_", "@")):
                return str(found)
    return next(_attribute_names(source, [*caller.f_locals.values(), *caller.f_globals.values()]), None)


def _attribute_names(source: Any, owners: Iterable[Any]) -> Iterator[str]:
    for owner in owners:
        held = getattr(owner, "__dict__", None) if isinstance(owner, ModuleType) or _plain_object(owner) else None
        for found, value in list((held or {}).items()):
            if value is source and isinstance(found, str) and not found.startswith("_"):
                yield found


def _plain_object(owner: Any) -> bool:
    return not isinstance(owner, type | FunctionType) and type(owner).__module__ != "builtins"


def _described(source: Any) -> str:
    if isinstance(source, type):
        return f"the class {source.__qualname__}"
    if isinstance(source, str | bytes):
        return f"the text {source!r:.60} (for a file, give pathlib.Path({source!r:.60}))"
    text = f"{source!r:.60}"
    return text if type(source).__name__ in text else f"{text}, {type(source).__name__}"
