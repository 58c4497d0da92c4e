"""The probes that need no word from the test: one for every library that is loaded."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from pytest_jobs.probes.arrivals import Arrivals, is_loading
from pytest_jobs.probes.base import Probe, Recorder
from pytest_jobs.world import Unreadable

__all__ = ["Active"]

# The library that must be loaded, the module of its probe, the probe's class.
KNOWN = (
    ("sqlalchemy.engine", "sqlalchemy", "SQLAlchemyProbe"),
    ("django.db", "django", "DjangoProbe"),
    ("sqlite3", "dbapi", "DBAPIProbe"),
    ("psycopg", "dbapi", "DBAPIProbe"),
    ("pymysql", "dbapi", "DBAPIProbe"),
    ("redis.client", "redis", "RedisProbe"),
    ("http.client", "http", "HttpProbe"),
    ("smtplib", "mail", "MailProbe"),
    ("aiosmtplib", "mail", "MailProbe"),
    ("botocore.client", "objects", "ObjectsProbe"),
    ("unittest.mock", "mocks", "MockProbe"),
)


# What the probes look for besides when they refresh, and the packages around it.
PARTS = ("requests", "requests_mock.mocker", "httpx", "urllib3", "aiohttp", "boto3.s3.inject", "sqlalchemy", "django", "redis", "botocore")


class Active:
    """Owns the probes of one world that were found by what is loaded."""

    def __init__(
        self, recorder: Recorder, roots: Sequence[Path], own_redis: Callable[[Any], bool], headers: Sequence[str] = ()
    ) -> None:
        self._recorder = recorder
        self._roots = roots
        self._given = {"redis": (own_redis,), "http": (headers,)}
        self._seen = 0
        self._made: dict[tuple[str, str], Probe] = {}
        self._begin: list[Callable[[], None]] = []
        self._arrivals = Arrivals({library for library, *_ in KNOWN}.union(PARTS), self._arrived)

    @property
    def probes(self) -> list[Probe]:
        """The installed probes, in the order they were installed."""
        return list(self._made.values())

    def begin(self) -> None:
        """Get ready for a job that is about to run."""
        self._arrivals.install()
        self.refresh()
        for begin in self._begin:
            begin()

    def refresh(self, done: str = "") -> None:
        """Install the probes of libraries that were loaded since the last look.

        Args:
            done: The module that has just been executed, though it is not marked as loaded yet.
        """
        if len(sys.modules) == self._seen and not done:
            return
        self._seen = len(sys.modules)
        for library, module, name in KNOWN:
            if library in sys.modules and (module, name) not in self._made and not is_loading(library, done):
                home = import_module(f"pytest_jobs.probes.{module}")
                if getattr(home, "available", lambda: True)():
                    self._add((module, name), getattr(home, name))
        if self._roots:
            self._see_files(self._roots)

    def _arrived(self, name: str) -> None:
        if self._recorder.sink is None or is_loading(name, name):
            return
        self.refresh(name)
        for probe in self._made.values():
            getattr(probe, "refresh", _nothing)()

    def watch(self, source: Any) -> None:
        """Let the probes know what the test named: a mock whose calls can fail, a path below which files are effects."""
        self.refresh()
        if isinstance(source, Path):
            self._see_files(())
        for probe in self._made.values():
            getattr(probe, "named", _nothing)(source)

    def _see_files(self, roots: Sequence[Path]) -> None:
        if ("files", "FilesProbe") not in self._made:
            from pytest_jobs.probes.files import FilesProbe

            self._add(("files", "FilesProbe"), lambda: FilesProbe(roots))

    def _add(self, key: tuple[str, str], make: Callable[..., Probe]) -> None:
        probe = make(*self._given.get(key[0], ()))
        try:
            probe.install(self._recorder)
        except Exception as error:  # noqa: BLE001 - a library that a test has patched beyond recognition
            with suppress(Exception):
                probe.remove()
            probe = Blind(probe.name, error)
        self._made[key] = probe
        if hasattr(probe, "begin"):
            self._begin.append(probe.begin)
        for known in self._made.values():
            getattr(known, "refresh", _nothing)()

    def remove(self) -> None:
        """Take every probe out again, last first."""
        self._arrivals.remove()
        self._begin.clear()
        while self._made:
            self._made.popitem()[1].remove()


class Blind:
    """Stands for a probe that could not be installed, and says so."""

    def __init__(self, name: str, error: Exception) -> None:
        self.name = name
        self._why = Unreadable(name, f"its library cannot be looked at: {error!r}")

    def install(self, recorder: Recorder) -> None:
        """Look at nothing."""

    def remove(self) -> None:
        """Leave everything as it is."""

    def read(self, wanted: frozenset[str]) -> tuple[Mapping[str, Any], tuple[Unreadable, ...]]:
        """Return nothing, and why."""
        return {}, (self._why,)

    def forget(self) -> None:
        """Close nothing."""


def _nothing(*_: Any) -> None:
    """Stand for what a probe does not have."""
