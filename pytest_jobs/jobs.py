"""What a test holds: publishing, running, time, faults, checks."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ContextDecorator, ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from pytest_jobs import trial
from pytest_jobs.clock import Clock, Delta
from pytest_jobs.errors import UsageError
from pytest_jobs.fresh import Fresh, fresh
from pytest_jobs.jobs_checks import Checking
from pytest_jobs.jobs_faults import Faulty
from pytest_jobs.metrics import Metrics, measured
from pytest_jobs.options import Options
from pytest_jobs.records import Effect, Job, JobList
from pytest_jobs.schedules import ONCE, Schedule
from pytest_jobs.session import Session

__all__ = ["Jobs", "in_process_worker"]
__tracebackhide__ = True

YEAR = timedelta(days=366)


class Jobs(Faulty, Checking):
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

    def settle(self, limit: Delta = YEAR, *, workers: Mapping[str, int | list[int]] | None = None) -> JobList:
        """Jump from due time to due time until nothing is left.

        With `workers` the jobs run side by side, as these workers would run them: a job takes the time that it sleeps
        (`time.sleep`), and those behind it wait for a free child. Each worker prefetches as the app's configuration says, and holds
        what it took behind a long job. Jobs of queues that no worker consumes stay.

        Args:
            limit: How much virtual time may pass, seconds or a `timedelta`.
            workers: The number of children of each worker, by the queues it consumes: `{"urgent": 1, "urgent,bulk": 4}`; a list of
                such numbers for several workers on the same queues.

        Raises:
            RunawayJobs: When something is still scheduled beyond the limit.
        """
        return self._worker.settle(limit) if workers is None else self._session.settle(limit, workers)

    def redeliver(self, job: Job) -> Job:
        """Deliver a job's message once more: original bytes, same id, marked as redelivered; run what is due.

        Args:
            job: A job that was delivered before, or still waits.
        """
        return self._session.redeliver(job)

    def deliver(
        self, task: Any, /, *args: Any, schedule: str | Schedule = "once", retries: int = 0, redelivered: bool = False,
        **kwargs: Any,
    ) -> Job:  # fmt: skip
        """Publish a task and bring it to rest under one schedule, in the world as it is.

        A test may begin in the middle of a story: with a row half written, with retries behind the message, with a
        message that was delivered before.

        Args:
            task: A task, a signature, or a registered name.
            args: Its positional arguments.
            schedule: The id of a schedule, `crash@3` or `fail@1+twice`; points and calls count from here.
            retries: How many retries the message has behind it.
            redelivered: Whether the first delivery is marked as delivered before.
            kwargs: Its keyword arguments.

        Raises:
            UsageError: When the schedule or the retry number is none.
            AssertionError: When the schedule names something that the run never reached.

        Example:
            >>> job = jobs.deliver(charge, 7, schedule="twice")
            >>> len(job.attempts)
            2
        """
        __tracebackhide__ = True
        return trial.deliver(self._session, task, args, kwargs, schedule, retries, redelivered)

    def beat(self, period: Delta, *, beats: int = 1, fresh: bool = False) -> JobList:
        """Run the app's beat schedule over virtual time, from due entry to due entry.

        Between two calls beat is down: `jobs.advance` lets time pass without it. When it is up again it goes on from its
        schedule file, so an entry that was due meanwhile is sent at once, and once.

        Args:
            period: Seconds or a `timedelta`.
            beats: How many beat processes there are; two send everything twice.
            fresh: Whether beat starts without its schedule file, as in a container that was replaced: nothing was due
                before, and intervals begin anew.

        Raises:
            UsageError: When the period is negative or there is no beat.

        Example:
            >>> nightly = jobs.beat(timedelta(days=7)).of(send_digest)
            >>> len(nightly)
            7
        """
        return self._session.beat(period, beats, fresh)

    def fresh(self) -> AbstractContextManager[Fresh]:
        """Let a block begin with no jobs, and put the world back afterwards: one example of a generated test.

        Broker, results, clock, records, faults and probes are as they were when the block began; so are watched lists,
        dictionaries, sets and mocks, Redis, files under `tmp_path`, and the rows of databases. What could not be put
        back is told in a warning, and in `left` of the value.

        Raises:
            UsageError: Inside a task, or while jobs are due.

        Example:
            >>> for order in (1, 2):
            ...     with jobs.fresh():
            ...         job = jobs.run(add, order, 3)
            >>> jobs.all
            []
        """
        return fresh(self._session)

    # Looking

    @property
    def metrics(self) -> Metrics:
        """The figures of the queues now: depth, oldest waiting, dead, retries, runtime."""
        return measured(self._worker.ledger, self.clock.now)

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
    def redis(self) -> Any:
        """A client of the in-process Redis server that the app's Redis URLs lead to."""
        return self._session.queue.redis()

    def __repr__(self) -> str:
        return f"<Jobs: {len(self._worker.ledger.entries)} jobs at {self.clock.now:%Y-%m-%d %H:%M:%S}>"


class _InProcess(ContextDecorator, AbstractContextManager[Jobs]):
    """The world of one `with` statement; misuse is told there, without the frames between it and us."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._stack = ExitStack()

    def __enter__(self) -> Jobs:
        try:
            self._jobs = self._stack.enter_context(open_jobs(self._options))
        except UsageError as error:
            raise error.with_traceback(None)  # noqa: B904 - it is the same
        return self._jobs

    def __exit__(self, *error: Any) -> bool | None:
        with self._stack:
            if error[0] is not None:
                return self._stack.__exit__(*error)
            self._jobs._session.check_faults()
        return None


def in_process_worker(app: Any = None, **options: Any) -> AbstractContextManager[Jobs]:
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
    return _InProcess(Options.of(app=app, **options))


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
