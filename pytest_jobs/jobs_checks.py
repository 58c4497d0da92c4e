"""What a test checks about its jobs, and what it compares."""

import sys
from collections.abc import Sequence
from typing import Any, Literal

from pytest_jobs import checks
from pytest_jobs.records import Job
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
