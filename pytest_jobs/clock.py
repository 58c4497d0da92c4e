"""Virtual time: the one clock of a world, and the sleep that moves it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from freezegun import api as freezegun_api
from freezegun.api import freeze_time

from pytest_jobs.clock_freezing import Holders, quick_start
from pytest_jobs.errors import UsageError

__all__ = ["Clock", "frozen", "seconds"]
__tracebackhide__ = True

REAL_SLEEP = time.sleep
SETTING_UP = 5.0
LONGEST = 1_000 * 366 * 86_400
Delta = timedelta | int | float


def seconds(delta: Delta, what: str) -> float:
    """Return a number of seconds or a `timedelta` as seconds; refuse anything negative."""
    if isinstance(delta, timedelta):
        delta = delta.total_seconds()
    if isinstance(delta, bool) or not isinstance(delta, int | float):
        raise UsageError(f"{what} was given {delta!r}; allowed are seconds (a number) or a timedelta")
    if delta != delta or delta in (float("inf"), float("-inf")):
        raise UsageError(f"{what} was given {delta!r}; allowed are finite seconds or a timedelta")
    if delta < 0:
        raise UsageError(f"{what} was given {delta!r} s; time only goes forward, so give zero or more seconds")
    if delta > LONGEST:
        raise UsageError(f"{what} was given {delta:g} s; allowed are at most 1,000 years")
    return float(delta)


def _naive(instant: datetime) -> datetime:
    """Return a plain naive UTC datetime, never freezegun's fake class."""
    if instant.tzinfo is not None:
        instant = instant.astimezone(UTC)
    return freezegun_api.real_datetime(*instant.timetuple()[:6], instant.microsecond)


def frozen() -> bool:
    """Tell whether the test has frozen time by itself."""
    return bool(freezegun_api.freeze_factories)


class RealTime:
    """What Hypothesis has of the module `time` while time is frozen: its deadlines and budgets are about real time.

    Attributes:
        hidden: The seconds that it is not to see.
        read: What counts the real seconds.
    """

    def __init__(self) -> None:
        self.hidden = 0.0
        self.read: Callable[[], float] = freezegun_api.real_perf_counter

    def perf_counter(self) -> float:
        """The seconds that passed for it."""
        return self.read() - self.hidden

    def monotonic(self) -> float:
        """The seconds that passed for it."""
        return float(freezegun_api.real_monotonic()) - self.hidden

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Let what happens meanwhile take no time."""
        began = self.read()
        try:
            yield
        finally:
            self.hidden += self.read() - began


class Clock:
    """The virtual clock of one world.

    It drives whichever freezegun freeze is innermost, so a test that froze time by itself keeps its instant and its own
    `freezer.tick()` works. Where no freeze is active it starts one. Time never goes back while a freeze lasts.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self._start = start
        self._freezer: Any = None
        self._factory: Any = None
        self._began = datetime.min
        self._offset = timedelta()
        self._moved = timedelta()
        self._last = datetime.min
        self._real = freezegun_api.real_time()
        self._seen: datetime | None = None
        self._plain = datetime.min
        self._aware: tuple[datetime, datetime] = (datetime.min, datetime.min)
        self._own: Any = None
        self._threads: frozenset[int | None] = frozenset()
        self._patched: list[tuple[Any, str, Any]] = []
        self.unfrozen = RealTime()
        self.on_sleep: Callable[[float], None] = self.advance
        self.instants: list[float] = []

    def start(self) -> None:
        """Freeze time and make `time.sleep` move it."""
        if not freezegun_api.freeze_factories:
            start = self._start or freezegun_api.real_datetime.now(UTC).replace(microsecond=0)
            self._freezer = freeze_time(_naive(start), real_asyncio=True, ignore=["_pytest.timing"])
            with quick_start(self._freezer):
                self._own = self._freezer.start()
        elif self._start is not None:
            freezegun_api.freeze_factories[-1].move_to(_naive(self._start))
        self._factory = freezegun_api.freeze_factories[-1]
        self._began = self._last = self._read()
        self.instants = [self._epoch(self._began)]
        self._threads = frozenset(thread.ident for thread in threading.enumerate()) - {threading.get_ident()}
        self._patch_sleep()

    def stop(self) -> None:
        """Let real time run again."""
        for module, name, before in self._patched:
            setattr(module, name, before)
        self._patched = []
        factories = freezegun_api.freeze_factories
        if self._own is None and factories and factories[-1] is self._factory and self._moved:
            self._factory.move_to(self._read() - self._moved)
        if self._freezer is not None:
            self._freezer.stop()
            self._freezer = None

    @property
    def now(self) -> datetime:
        """The current instant, an aware datetime in UTC."""
        known = self._aware
        factories = freezegun_api.freeze_factories
        if factories and factories[-1] is self._factory and factories[-1]() is self._seen and self._last is known[0]:
            return known[1]  # nothing has moved; asked several times a job
        plain = self._sync()
        if plain is not self._aware[0]:
            self._aware = plain, plain.replace(tzinfo=UTC)
        return self._aware[1]

    @property
    def timestamp(self) -> float:
        """The current instant in epoch seconds."""
        return self.now.timestamp()

    @property
    def real(self) -> tuple[float, float]:
        """From when to when this clock has run by the real one, in epoch seconds; fixtures before it count too."""
        return self._real - SETTING_UP, freezegun_api.real_time()

    @property
    def elapsed(self) -> timedelta:
        """How much virtual time passed since the fixture began."""
        return self._sync() - self._began + self._offset

    def advance(self, delta: Delta) -> None:
        """Move time forward without running what becomes due; `jobs.advance` runs it.

        Args:
            delta: Seconds or a `timedelta`.

        Raises:
            UsageError: When it is negative.
        """
        self._set(self._sync() + timedelta(seconds=seconds(delta, "clock.advance")))

    def move_to(self, instant: datetime) -> None:
        """Move time forward to an instant without running what becomes due.

        Args:
            instant: A datetime; a naive one is in UTC.

        Raises:
            UsageError: When it lies in the past.
        """
        if not isinstance(instant, freezegun_api.real_datetime):
            raise UsageError(f"clock.move_to was given {instant!r}; allowed is a datetime")
        wanted, now = _naive(instant), self._sync()
        if wanted < now:
            raise UsageError(f"clock.move_to was given {instant}, which is before now, {self.now}; time only goes forward")
        self._set(wanted)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Begin anew at this instant, and come back to it afterwards: the time between never was."""
        now = self._sync()
        kept = self._factory, self._began, self._offset, self._moved, self.instants
        self._began, self._offset, self.instants = now, timedelta(), [self._epoch(now)]
        try:
            yield
        finally:
            self._factory, self._began, self._offset, self._moved, self.instants = kept
            self._last = now
            if freezegun_api.freeze_factories and freezegun_api.freeze_factories[-1] is self._factory:
                self._factory.move_to(now)

    def _set(self, instant: datetime) -> None:
        if instant != self._last:
            self._factory.move_to(instant)
            self._moved += instant - self._last
            self._last = instant
            self.instants.append(self._epoch(instant))

    def _read(self) -> datetime:
        frozen = freezegun_api.freeze_factories[-1]()
        if frozen is not self._seen:
            self._seen, self._plain = frozen, _naive(frozen)
        return self._plain

    def _sync(self) -> datetime:
        """Follow a freeze that the test opened or closed since the last look."""
        factories = freezegun_api.freeze_factories
        if not factories:
            return self._last
        if factories[-1] is not self._factory:
            self._offset += self._last - self._began
            self._factory, self._moved = factories[-1], timedelta()
            if self._factory is self._own and self._read() < self._last:
                self._factory.move_to(self._last)
            self._began = self._last = self._read()
            self.instants.append(self._epoch(self._last))
            return self._last
        now = self._read()
        if now != self._last:
            self.instants.append(self._epoch(now))
        self._last = now
        return now

    @staticmethod
    def _epoch(instant: datetime) -> float:
        return instant.replace(tzinfo=UTC).timestamp()

    def _sleep(self, length: float) -> None:
        if threading.get_ident() in self._threads:
            REAL_SLEEP(length)
        else:
            self.on_sleep(seconds(length, "time.sleep"))

    def _patch_sleep(self) -> None:
        """Replace `time.sleep` wherever a module holds it, as freezegun does with the clocks; leave Hypothesis its own."""
        sleep = self._sleep
        for _, module, found in _sleepers():
            names = vars(module)
            for name in found:
                before = names.get(name)
                if before is REAL_SLEEP or before is time:
                    setattr(module, name, sleep if before is REAL_SLEEP else self.unfrozen)
                    self._patched.append((module, name, before))


@cache
def _sleepers() -> Holders:
    """Find the names under which a module other than this holds `time.sleep`, or Hypothesis `time`."""

    def held(key: str, module: Any) -> tuple[str, ...]:
        if key == __name__:
            return ()
        wanted = (REAL_SLEEP, time) if key.startswith("hypothesis.") else (REAL_SLEEP,)
        return tuple(name for name, value in list(vars(module).items()) if any(value is each for each in wanted))

    return Holders(held)
