"""What a test holds: publishing, running, time, faults, checks."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pytest_jobs import checks
from pytest_jobs.clock import Clock, Delta
from pytest_jobs.faults import Fault
from pytest_jobs.options import Options
from pytest_jobs.records import Effect, Job, JobList
from pytest_jobs.schedules import ONCE, Schedule
from pytest_jobs.session import Session

__all__ = ["Jobs", "in_process_worker"]
__tracebackhide__ = True

YEAR = timedelta(days=366)


class Jobs:
    """The jobs of one test: publish them, run them, move time, let things go wrong, look at what happened.

    Get it from the fixture `jobs` or from `in_process_worker`; never make one.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._worker = session.worker

    # Running

    def run(self, task: Any, /, *args: Any, **kwargs: Any) -> Job:
        """Publish a task and settle.

        Args:
            task: A task, a signature, or a registered name.
            args: Its positional arguments.
            kwargs: Its keyword arguments.

        Raises:
            UsageError: When no task of that name is registered.
            RunawayJobs: When the jobs never come to rest.

        Example:
            >>> job = jobs.run(add, 2, 3)
            >>> job.result
            5
        """
        return self._session.run(task, args, kwargs)

    def drain(
        self, *, task: Any = None, queue: str | None = None, limit: int | None = None, spawned: bool = True
    ) -> JobList:
        """Run what is due now, without moving time.

        Args:
            task: Only this task's jobs.
            queue: Only this queue's jobs.
            limit: At most so many deliveries.
            spawned: Whether jobs published during the call run too.

        Example:
            >>> handle = add.delay(2, 3)
            >>> jobs.drain()
            [<Job add(2, 3): succeeded>]
        """
        return self._session.drain(task, queue, limit, spawned)

    def advance(self, delta: Delta) -> JobList:
        """Move time, stopping at each due instant to run what is due there.

        Args:
            delta: Seconds or a `timedelta`.

        Raises:
            UsageError: When it is negative.
        """
        return self._worker.advance(delta)

    def settle(self, limit: Delta = YEAR) -> JobList:
        """Jump from due time to due time until nothing is left.

        Args:
            limit: How much virtual time may pass, seconds or a `timedelta`.

        Raises:
            RunawayJobs: When something is still scheduled beyond the limit.
        """
        return self._worker.settle(limit)

    def redeliver(self, job: Job) -> Job:
        """Deliver a job's message once more: original bytes, same id, marked as redelivered; run what is due.

        Args:
            job: A job that was delivered before, or still waits.
        """
        return self._session.redeliver(job)

    # Looking

    @property
    def all(self) -> JobList:
        """Every job, in publish order."""
        return self._session.jobs()

    @property
    def pending(self) -> JobList:
        """The jobs that could run now."""
        return self._session.jobs("pending")

    @property
    def scheduled(self) -> JobList:
        """The jobs that wait for a time: an ETA, a countdown, a retry."""
        return self._session.jobs("scheduled", "retrying")

    @property
    def succeeded(self) -> JobList:
        """The jobs whose outcome is a success."""
        return self._session.jobs("succeeded")

    @property
    def failed(self) -> JobList:
        """The jobs whose outcome is a failure."""
        return self._session.jobs("failed")

    @property
    def dead(self) -> JobList:
        """The jobs that failed for good: permanent error, exhausted retries, rejected."""
        return self._session.jobs("failed", "rejected")

    @property
    def lost(self) -> JobList:
        """The jobs that were acknowledged or dropped without an outcome."""
        return self._session.jobs("lost")

    @property
    def effects(self) -> tuple[Effect, ...]:
        """Everything the jobs did that outlives a crash, in order."""
        return self._session.effects()

    @property
    def clock(self) -> Clock:
        """Virtual time: `now`, `elapsed`, `advance`, `move_to`."""
        return self._session.clock

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Every armed fault, with what fired, what was reached too late, what never was."""
        return tuple(self._session.faults.all)

    @property
    def redis(self) -> Any:
        """A client of the in-process Redis server that the app's Redis URLs lead to."""
        return self._session.queue.redis()

    # Faults

    def fail(self, target: Any, exc: Any, *, times: int | None = None, after: bool = False) -> Fault:
        """Let a target raise instead of running.

        Args:
            target: A task, its registered name, or a dotted path to a callable.
            exc: The exception, an instance or a class.
            times: How often; None for ever (a permanent failure).
            after: Whether the call takes effect before it raises (its reply is lost).

        Raises:
            UsageError: When the target does not exist or the exception is none.
        """
        return self._session.faults.fail(self._session.queue, target, exc, times, after)

    def crash(self, target: Any, *, times: int = 1, after: bool = False, child: bool = False) -> Fault:
        """Kill the worker where a target is reached: no cleanup code runs, nothing is acknowledged.

        Args:
            target: A task, its registered name, a dotted path to a callable, `"billing/tasks.py:42"` or `"#charged"`.
            times: How often.
            after: Whether the call takes effect before the kill.
            child: Whether only the pool's child dies; its parent sees `WorkerLostError`.

        Raises:
            UsageError: When the target does not exist.
        """
        return self._session.crash(target, times, after, child)

    def hang(self, target: Any, *, times: int = 1) -> Fault:
        """Let a call never return: virtual time passes until the soft, then the hard time limit.

        Args:
            target: A task, its registered name, or a dotted path to a callable.
            times: How often.

        Raises:
            UsageError: When the target does not exist.
        """
        return self._session.hang(target, times)

    def lose(self, task: Any = None, *, times: int = 1) -> Fault:
        """Lose the next messages, of one task or of any, on their way to the worker."""
        return self._session.faults.delivery(self._session.queue, "lose", task, times)

    def duplicate(self, task: Any = None, *, times: int = 1) -> Fault:
        """Deliver the next messages twice."""
        return self._session.faults.delivery(self._session.queue, "duplicate", task, times)

    def postpone(self, task: Any = None, *, by: Delta, times: int = 1) -> Fault:
        """Hold the next messages back.

        Args:
            task: Only this task's messages.
            by: For how long, seconds or a `timedelta`.
            times: How many messages.
        """
        return self._session.postpone(task, by, times)

    # Checks

    def watch(self, source: Any, *, name: str | None = None, ignore: Sequence[str] = ()) -> None:
        """Compare something more between runs: what a callable returns, a database, a mock, a list, ….

        Args:
            source: What to look at.
            name: What failures call it.
            ignore: Patterns of differences in it that are fine.

        Raises:
            UsageError: When nothing can look at this kind of source.
        """
        self._session.watch(source, name, ignore, sys._getframe(1))

    def check_idempotent(self, task: Any, /, *args: Any, **kwargs: Any) -> Job:
        """Run a task, deliver it again, and compare.

        Raises:
            AssertionError: With the difference, when the second delivery changed something.
        """
        __tracebackhide__ = True
        return checks.idempotent(self._session, task, args, kwargs)

    def check_delays(self, job: Job, expected: Sequence[float], *, jitter: float | Literal["full"] = 0.0) -> None:
        """Check the whole backoff schedule of a job.

        Args:
            job: The job.
            expected: What its retries should have waited, in seconds.
            jitter: 0.1 allows each delay ± 10 %; `full` any from 0 to the expected one.

        Raises:
            AssertionError: With both schedules side by side.
        """
        __tracebackhide__ = True
        checks.delays(job, expected, jitter)

    def __repr__(self) -> str:
        return f"<Jobs: {len(self._worker.ledger.entries)} jobs at {self.clock.now:%Y-%m-%d %H:%M:%S}>"


@contextmanager
def in_process_worker(app: Any = None, **options: Any) -> Iterator[Jobs]:
    """Run jobs in this process: the fixture `jobs` without pytest.

    Args:
        app: The Celery app, or `"module:attribute"`; None takes over every live app.
        options: The ini settings without `jobs_`: `broker`, `start`, `ignore`, ….

    Raises:
        UsageError: On an unknown option or value, or inside another in-process worker.
        AssertionError: At the end, when a fault that was armed never fired.

    Example:
        >>> with in_process_worker() as jobs:
        ...     job = jobs.run(add, 2, 3)
        >>> job.result
        5
    """
    with open_jobs(Options.of(app=app, **options)) as jobs:
        yield jobs
        jobs._session.check_faults()


@contextmanager
def open_jobs(
    options: Options,
    schedule: Schedule = ONCE,
    roots: Sequence[Path] = (),
    wanted: frozenset[str] = frozenset(),
    record: bool = False,
    only: Sequence[str] = (),
) -> Iterator[Jobs]:
    """Open a world and hold it; the caller says when faults are checked."""
    with ExitStack() as stack:
        session = stack.enter_context(Session(options, schedule, roots, record))
        session.worker.wanted = wanted
        session.worker.only = frozenset(only)
        yield Jobs(session)
