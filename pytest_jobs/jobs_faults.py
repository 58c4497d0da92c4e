"""What a test lets go wrong: the faults of `jobs`."""

from typing import Any, Literal

from pytest_jobs import outages, outgoing
from pytest_jobs.clock import Delta
from pytest_jobs.faults import Fault
from pytest_jobs.session import Session

__all__ = ["Faulty"]
__tracebackhide__ = True


class Faulty:
    """The part of `Jobs` that arms faults."""

    _session: Session

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Every armed fault, with what fired, what was reached too late, what never was."""
        return tuple(self._session.faults.all)

    def fail(self, target: Any, exc: Any, *, times: int | None = None, after: bool = False) -> Fault:
        """Let a target raise instead of running.

        Args:
            target: A task, its registered name, a dotted path to a callable, `"billing/tasks.py:42"` or `"#charged"`.
            exc: The exception, an instance or a class.
            times: How often; None for ever (a permanent failure).
            after: Whether the call takes effect before it raises (its reply is lost).

        Raises:
            UsageError: When the target does not exist or the exception is none.
        """
        return self._session.faults.fail(self._session.queue, target, exc, times, after, self._session.looking)

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
        return self._session.killing().crash(self._session.queue, target, times, after, child, self._session.looking)

    def hang(self, target: Any, *, times: int = 1) -> Fault:
        """Let a call never return: virtual time passes until the soft, then the hard time limit.

        Args:
            target: A task, its registered name, a dotted path to a callable, `"billing/tasks.py:42"` or `"#charged"`.
            times: How often.

        Raises:
            UsageError: When the target does not exist.
        """
        return self._session.killing().hang(self._session.queue, target, times, self._session.looking)

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

    def outage(self, what: Literal["broker", "results"], *, times: int = 1) -> Fault:
        """Let the broker or the result backend be out of reach.

        Publishing, consuming and acknowledging raise what the broker's transport would raise, storing what the result
        backend would; Celery's own retries of these (`task_publish_retry_policy`, `result_backend_always_retry`) run
        in virtual time.

        Args:
            what: `broker` or `results`.
            times: How many operations fail.

        Raises:
            UsageError: When it is neither.

        Example:
            >>> with jobs.outage("broker", times=3) as outage:
            ...     job = jobs.run(send_email, 7, "welcome")
            >>> outage.fired
            3
        """
        return outages.arm(self._session, what, times)

    def outgoing(self, target: str, *, error: Any = ConnectionError) -> None:
        """Declare a dotted path to be an outgoing call: an effect, so a point for `crash`, `fail` and `reply-lost`.

        Args:
            target: The dotted path to a callable, for example of a gateway class of your own.
            error: What it raises when it cannot be reached, an exception or an exception class.

        Raises:
            UsageError: When the target does not exist or the error is none.

        Example:
            >>> jobs.outgoing("shop.gateway.charge", error=TimeoutError)
        """
        outgoing.declare(self._session, target, error)

    def shutdown(self, how: Literal["warm", "soft", "cold", "kill"] = "warm") -> None:
        """Stop the worker so; a fresh one goes on with what is left in the broker.

        Between jobs all but `kill` end alike: what waited in the worker goes back to the broker at once; after a `kill`
        Redis hands it out again when its visibility timeout has passed. Called while a job runs (from a fake that the
        task calls), `warm` lets that job finish, `soft` gives it `worker_soft_shutdown_timeout` seconds of virtual time
        (without that setting it may finish, too) and is cold then, `cold` stops it in the middle, `kill` is `jobs.crash`.

        Args:
            how: `warm` (TERM), `soft` (5.5's soft shutdown), `cold` (QUIT) or `kill` (KILL).

        Raises:
            UsageError: When it is none of these, or `soft` before Celery 5.5.
        """
        outages.shutdown(self._session, how)
