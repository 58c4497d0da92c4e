"""What a test checks about its jobs, and what it compares."""

import sys
from collections.abc import Sequence
from typing import Any, Literal

from pytest_jobs import checks, strain, threaded
from pytest_jobs.records import Effect, Job
from pytest_jobs.session import Session

__all__ = ["Checking"]
__tracebackhide__ = True


class Checking:
    """The part of `Jobs` that checks."""

    _session: Session

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

    def check_effects(self, job: Job, expected: Sequence[str | Effect]) -> None:
        """Check what a job did that outlives a crash, in all its attempts until now.

        What is listed must be all that the job did of its kind, in this order; what no entry speaks of may have been done
        besides. An empty list says that the job did nothing.

        Args:
            job: The job.
            expected: For each effect its label or target as `jobs.effects` has it (`INSERT payments`), a pattern for one of
                them (`POST *`), or an `Effect`, which must have the same kind, target and label, and where they are given
                the same key, detail and line.

        Raises:
            AssertionError: With both lists side by side, and for what was not done the three effects nearest to it.
        """
        __tracebackhide__ = True
        checks.effects(self._session, job, expected)

    def check_memory(self, task: Any, /, *args: Any, runs: int = 200, **kwargs: Any) -> None:
        """Check that a task keeps no more memory from run to run.

        What counts is what was allocated in or beneath a line of project code (`tracemalloc`) and still lives. The jobs of
        these runs are not listed afterwards.

        Args:
            task: A task, a signature, or a registered name.
            args: Its positional arguments.
            runs: How often it runs, after 20 runs that warm caches up.
            kwargs: Its keyword arguments.

        Raises:
            AssertionError: With the lines that keep more, and how many bytes a run.
        """
        __tracebackhide__ = True
        strain.memory(self._session, task, args, kwargs, runs)

    def check_herd(self, task: Any, /, *args: Any, jobs: int = 100, **kwargs: Any) -> None:
        """Check that jobs which fail at one instant do not come back at one instant.

        Let the task fail first, with `jobs.fail` for example.

        Args:
            task: A task, a signature, or a registered name.
            args: Its positional arguments.
            jobs: How many jobs fail together.
            kwargs: Its keyword arguments.

        Raises:
            AssertionError: When more than half of them retry in one second, with the histogram; or when none is retried.
        """
        __tracebackhide__ = True
        strain.herd(self._session, task, args, kwargs, jobs)

    def check_threads(self, task: Any, /, *args: Any, threads: int = 10, **kwargs: Any) -> None:
        """Check that jobs of a task in the threads of one worker leave what the same jobs leave one after the other.

        The threads change between two lines of project code, as a seed says, so the same run finds the same. Databases,
        Redis, files and what `jobs.watch` names are put back before each of the interleavings. What a deadlock or an
        error in one thread does is a difference too.

        Args:
            task: A task or its registered name.
            args: Its positional arguments; an iterator gives each job its next value.
            threads: How many jobs run at once.
            kwargs: Its keyword arguments, likewise.

        Raises:
            AssertionError: With the difference; or when two runs one after the other differ already.

        Example:
            >>> jobs.check_threads(add, 2, 3)
        """
        __tracebackhide__ = True
        threaded.threads(self._session, task, args, kwargs, threads)
