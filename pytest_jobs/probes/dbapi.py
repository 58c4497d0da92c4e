"""What a task writes through `sqlite3`, `psycopg` and `pymysql` directly, and the rows that it leaves."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from pytest_jobs.probes.base import OF_THE_TEST, SHARED, SINGLE, Held, Recorder
from pytest_jobs.probes.dbapi_driver import Driver, Place
from pytest_jobs.probes.dbapi_kept import KeepingPlaces
from pytest_jobs.probes.hurry import Patience
from pytest_jobs.probes.naming import Names
from pytest_jobs.probes.sqltext import ENDS, LOCK, SCRIPT, Statements, shortened
from pytest_jobs.records import Effect
from pytest_jobs.world import EVERYTHING, Rows, Unreadable

__all__ = ["DBAPIProbe"]

DRIVERS = (
    ("sqlite3", "dbapi_sqlite3", "SqliteDriver"),
    ("psycopg", "dbapi_servers", "PsycopgDriver"),
    ("pymysql", "dbapi_servers", "PymysqlDriver"),
)
UNDEAD = "the task writes in a transaction that the test began and wrote in: what a killed one wrote is still there"


class DBAPIProbe(KeepingPlaces):
    """Sees connections that no ORM of ours owns."""

    def __init__(self) -> None:
        super().__init__()
        self.name = "dbapi"
        self.recorder = Recorder()
        self._drivers: dict[str, Driver] = {}
        self._statements = {False: Statements(), True: Statements(fold=True)}
        self._reset()

    def _reset(self) -> None:
        self._names = Names()
        self._places: dict[object, Place] = {}
        self._place_of: WeakKeyDictionary[Any, Place] = WeakKeyDictionary()
        self._pending: WeakKeyDictionary[Any, dict[str, None]] = WeakKeyDictionary()
        self._used: WeakKeyDictionary[Any, tuple[Any, Driver]] = WeakKeyDictionary()
        self._test_wrote: WeakSet[Any] = WeakSet()
        self._locking: WeakSet[Any] = WeakSet()
        self._patience = Patience()
        self._undead = False

    def install(self, recorder: Recorder) -> None:
        """Hook those drivers that are loaded."""
        self.recorder = recorder
        self._reset()
        recorder.holds[self.name] = self._holding
        recorder.locks[self.name] = self._locked
        self.refresh()

    def refresh(self) -> None:
        """Hook those drivers that were loaded since."""
        for library, module, name in DRIVERS:
            if library in sys.modules and library not in self._drivers:
                driver = getattr(import_module(f"pytest_jobs.probes.{module}"), name)()
                driver.install(self)
                self._drivers[library] = driver

    def remove(self) -> None:
        """Unhook them."""
        self._let_go()
        self.recorder.holds.pop(self.name, None)
        self.recorder.locks.pop(self.name, None)
        for driver in self._drivers.values():
            driver.remove()
        self._close_kept()
        for place in self._places.values():
            getattr(place.look, "close", lambda: None)()
        self._drivers = {}
        self._reset()

    def _let_go(self) -> None:
        """End the transactions that jobs left open, as their process would: the next run's fixtures must not wait for their locks."""
        with self.recorder.paused():
            for connection, (_, driver) in list(self._used.items()):
                if connection not in self._test_wrote and driver.open(connection):
                    with suppress(Exception):
                        driver.release(connection)

    def read(self, wanted: frozenset[str]) -> tuple[dict[str, Rows], tuple[Unreadable, ...]]:
        """Return the committed rows of each table that a job wrote to, and of the wanted ones."""
        state: dict[str, Rows] = {}
        unreadable: list[Unreadable] = []
        if self._undead:
            unreadable.append(Unreadable(self.name, UNDEAD))
        if not self._places:
            return state, tuple(unreadable)
        tables = {subject for subject in wanted if ":" not in subject}
        with self.recorder.paused():
            for place in self._places.values():
                mine = place.wrote.tables.union(*(self._names.private(place, place.label, each) for each in tables))
                if not mine and not place.wrote:
                    continue
                try:
                    found, failed = place.look(None if mine >= EVERYTHING else mine, place.wrote)
                except Exception as error:  # noqa: BLE001 - each driver has its own family of errors
                    reason = f"{', '.join(sorted(place.wrote.tables)) or place.label} could not be read: {error}"
                    unreadable.append(Unreadable(self.name, reason.partition("\n")[0]))
                    continue
                for table, rows in found.items():
                    references = {
                        column: self._names.public(place, place.label, target)
                        for column, target in rows.references.items()
                    }
                    subject = self._names.public(place, place.label, table)
                    state[subject] = Rows(rows.key, rows.rows, rows.surrogate, references, rows.places)
                unreadable += failed
        return state, tuple(unreadable)

    def forget(self) -> None:
        """Roll back, and close the cursors of, what a killed task used."""
        job = self.recorder.sink
        with self.recorder.paused():
            for connection, (owner, driver) in list(self._used.items()):
                if job is not None and owner is not job:
                    continue
                self._used.pop(connection, None)
                tables = self._pending.pop(connection, None)
                if connection in self._test_wrote:
                    self._undead = self._undead or bool(tables)
                    continue
                with suppress(Exception):
                    driver.release(connection)

    def _holding(self) -> Iterator[Held]:
        for connection, (_, driver) in list(self._used.items()):
            if driver.open(connection) and (connection in self._pending or connection in self._locking):
                single = self._place(driver, connection).single
                yield Held(connection, SINGLE if single else OF_THE_TEST if connection in self._test_wrote else "")

    def uses(self, driver: Driver, connection: Any) -> None:
        """Know that a connection is used, while a second delivery runs beside the first."""
        if self.recorder.rival is not None:
            self.recorder.rival.uses(connection, SHARED if driver.foreign(connection) else "")

    def _locked(self) -> bool:
        return any(driver.blocks(key) for driver in self._drivers.values() for key in self._places)

    def _hurry(self, driver: Driver, connection: Any) -> None:
        query = driver.query(connection)
        if query is not None:
            with self.recorder.paused():
                change = self._patience.hurry if self.recorder.hurried else self._patience.relax
                change(connection, driver.family, query)

    def ended(self, connection: Any) -> None:
        """Know that a transaction is over."""
        for known in (self._locking, self._test_wrote):
            known.discard(connection)
        self._pending.pop(connection, None)

    def left_open(self, driver: Driver) -> frozenset[int]:
        """Return the connections on which other attempts left a transaction open."""
        job = self.recorder.sink
        return frozenset(
            id(connection)
            for connection, (owner, its) in list(self._used.items())
            if its is driver and owner is not job and driver.open(connection)
        )

    @contextmanager
    def statement(
        self, driver: Driver, connection: Any, statement: Any, parameters: Any, *, script: bool = False, atomic: bool = True
    ) -> Iterator[None]:
        """Stand around a statement of the driver, or a script of several."""
        if not self.recorder.active and self.recorder.sink is not None:
            yield
            return
        self.uses(driver, connection)
        text = driver.text(statement, connection)
        first, writes, calls = self._statements[driver.folds].read(text)
        if self.recorder.sink is None:
            if writes and self._keeping:
                self._place(driver, connection)
            yield
            if writes:
                self._place(driver, connection)
                if driver.open(connection):
                    self._test_wrote.add(connection)
            return
        if calls and driver.family != "sqlite":
            self._place(driver, connection).wrote.calls.update(calls)
        if not driver.open(connection):
            self._test_wrote.discard(connection)
        self._used[connection] = (self.recorder.sink, driver)
        if self.recorder.hurried != (connection in self._patience):
            self._hurry(driver, connection)
        if first in {"COMMIT", "END"}:
            with self.commit(driver, connection, undo=lambda: None):
                yield
            return
        if not writes:
            yield
            if first == LOCK:
                self._locking.add(connection)
                driver.locked(connection)
            return
        place = self._place(driver, connection)
        tables = [write.table.removeprefix("main.") for write in writes]
        place.wrote.tables.update(tables)
        subject = self._names.public(place, place.label, tables[-1])
        label = writes[-1].label(subject)
        pending = first != SCRIPT and (driver.open(connection) or driver.begins(connection, "" if script else first))
        effect = Effect("sql", subject, label, safe=True, detail=shortened(parameters, text), pending=pending)
        with self.recorder.doing(effect, driver.error, atomic=atomic):
            yield
            if driver.open(connection):
                self._pending.setdefault(connection, {}).update(dict.fromkeys(tables))

    @contextmanager
    def commit(self, driver: Driver, connection: Any, undo: Callable[[], Any]) -> Iterator[None]:
        """Stand around a commit of the driver; one that does not get there is undone."""
        tables = list(self._pending.get(connection, ())) if self.recorder.active and driver.open(connection) else []
        self._test_wrote.discard(connection)
        if not tables:
            self.ended(connection)
            yield
            return
        effect = Effect("sql", tables[0], "COMMIT", safe=True, detail=", ".join(tables))
        reached = False
        try:
            with self.recorder.doing(effect, driver.error):
                reached = True
                yield
                self.ended(connection)
        except BaseException:
            self.ended(connection)
            if not reached:
                with self.recorder.paused(), suppress(Exception):
                    undo()
            raise

    def looks(self, driver: Driver, statement: Any) -> bool:
        """Whether a statement is known to only read: the fast way out."""
        known = self._statements[driver.folds].known(statement) if self.recorder.rival is None else None
        if known is None or known.writes or (known.calls and driver.family != "sqlite"):
            return False
        return known.first not in ENDS and known.first != LOCK

    def _place(self, driver: Driver, connection: Any) -> Place:
        found = self._place_of.get(connection)
        if found is None:
            with self.recorder.paused():
                key, label = driver.key(connection)
                found = self._places.get(key)
                if found is None:
                    found = self._places[key] = Place(label, driver.look(connection), driver.single(key))
                    self._know(found, driver, key, connection)
            self._place_of[connection] = found
        if self._keeping:
            self._keep(found)
        return found
