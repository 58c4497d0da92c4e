"""What every queue adapter offers the worker, and what the worker offers the adapter."""

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol

__all__ = ["Envelope", "Host", "Lost", "Outcome", "Queue"]


class Envelope(NamedTuple):
    """One message as it lies in a queue.

    Attributes:
        id: The job's id.
        name: The task's name.
        queue: The queue it lies in.
        raw: The message's original text, from which every delivery is decoded anew.
        tag: What identifies this copy to the broker.
        eta: The instant before which it must not run, or None.
        retries: How many retries the job has behind it.
        parent: The id of the job that published it, or None.
        redelivered: Whether the broker marked it as delivered before.
        broker: The broker it lies in; only the adapter looks inside.
        payload: The decoded message, for the delivery it was popped for.
    """

    id: str
    name: str
    queue: str
    raw: str
    tag: str
    eta: datetime | None
    retries: int
    parent: str | None
    redelivered: bool
    broker: Any
    payload: Any = None


class Outcome(NamedTuple):
    """How one execution ended: an attempt's `outcome`, its value, its error."""

    outcome: str
    value: Any = None
    error: BaseException | None = None


class Lost(Protocol):
    """How a pool's child was lost."""

    timed_out: float | None


class Host(Protocol):
    """What an adapter tells the worker while messages move."""

    def published(self, envelope: Envelope) -> None:
        """A new message reached its queue."""

    def put(self, envelope: Envelope) -> None:
        """A copy of a known message went (back) into its queue."""

    def fetched(self, envelope: Envelope) -> None:
        """A worker took the message out of its queue; it is unacknowledged now."""

    def settled(self, tag: str, how: str) -> None:
        """The message with this tag was `acked`, `rejected`, `requeued` or `dropped`."""

    def execute(
        self,
        job_id: str,
        retries: int,
        redelivered: bool,
        tag: str,
        limits: tuple[float | None, float | None],
        run: Callable[[], Outcome],
    ) -> Outcome:
        """Run one execution of a delivery, under its soft and hard time limit (seconds), as one attempt."""

    def unlimited(self, task: str, pool: str) -> None:
        """A task has a time limit that its app's pool does not keep."""

    def apply(self, job_id: str, tag: str, work: Callable[[], None]) -> None:
        """Let the pool do the work of a delivery, which ends in `execute`."""

    def survived(self, error: BaseException) -> "Lost | None":
        """Return how the pool's child was lost, when the error is its death and the parent lives on."""

    def body(self, task: Any, run: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the task's body itself, at the points and under the faults of this attempt."""

    def call(self, task: Any, run: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run what the project's own kind of task does around that body."""

    def ended(self, job_id: str, state: str, error: BaseException | None) -> None:
        """A job came to an end without an execution: `revoked`, `rejected` or `failed`."""

    def publishing(self) -> bool:
        """Whether a publish made now comes from test code, not from a job or the worker."""

    def run_inline(self, job_id: str, propagate: bool) -> None:
        """Settle after such a publish of an app that was eager; raise the job's error when that app propagates."""

    def wait(self, ready: Callable[[], bool], timeout: float | None, job: str) -> None:
        """Run the worker until a result is ready, or its timeout (seconds) has passed."""

    def glance(self) -> None:
        """Run what is due, because test code looks at a result."""

    def outcome(self, job_id: str) -> tuple[str, Any, BaseException | None]:
        """Return a job's state, its value and its error, as far as there are any."""


class Queue(Protocol):
    """A job queue's library, driven one message at a time."""

    def start(self, host: Host) -> None:
        """Take the library over: an in-process broker, no way to any server."""

    def stop(self) -> None:
        """Restore everything."""

    outage: Callable[[str], None]

    def publish(self, task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], retries: int = 0) -> str:
        """Publish a task, a signature or a registered name, with so many retries behind it; return the job's id."""

    def resolve(self, target: Any) -> Any | None:
        """Return the task for a task object or registered name, None when it is neither."""

    def names(self) -> list[str]:
        """Return every registered task name of project code."""

    def pop(self, queues: Collection[str] | None = None) -> Envelope | None:
        """Take the next ready message out of its queue, of any or of these."""

    def put(self, envelope: Envelope, *, front: bool = False) -> None:
        """Put a message (back) into its queue."""

    def copy(self, envelope: Envelope, *, redelivered: bool) -> Envelope:
        """Return another copy of a message: original bytes, same id, a tag of its own."""

    def deliver(self, envelope: Envelope, at_once: bool = False) -> None:
        """Hand a popped message to the real consume, execute, acknowledge path; `at_once` whatever its rate limit."""

    def next_due(self) -> datetime | None:
        """Return the first instant at which the adapter has something to do, None for never."""

    def run_due(self, now: datetime) -> bool:
        """Do what is due: redeliver what lay unacknowledged too long, run what waited for its time."""

    def redelivery_due(self) -> datetime | None:
        """Return the first instant at which a broker redelivers what lay unacknowledged too long, None for never."""

    def redeliver_due(self, now: datetime) -> None:
        """Redeliver what lay too long while a task runs: the busy worker receives it."""

    def take_received(self) -> tuple[str, Callable[[], None]] | None:
        """Return the job, and how to begin it, of the next message that was received while a task ran."""

    def decode(self, raw: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments a message carries."""

    def soft_window(self, task: str) -> float | None:
        """Return the seconds that a soft shutdown leaves a running task; None when the library knows none."""

    def prefetch(self, children: int) -> int | None:
        """Return how many messages a worker with so many children takes unacknowledged; 0: what they are free for, None: all."""

    def soft_limit(self, limit: float) -> BaseException:
        """Make the error that a task's soft time limit (seconds) raises in it."""

    def marked(self, envelope: Envelope) -> Envelope:
        """Return the message marked as redelivered, under the same tag."""

    def shutdown(self) -> None:
        """Let every worker end in order: what it holds goes back to the broker; the next delivery starts a fresh one."""

    def kill(self) -> None:
        """Let every worker die without cleaning up; the next delivery starts a fresh one."""

    def unreachable(self, what: str, message: str) -> BaseException:
        """Make the error that reaching the `broker` or the `results` would raise while they are down."""

    def beat(self, period: timedelta, beats: int, fresh: bool, until: Callable[[datetime], Any]) -> None:
        """Run the app's beat schedule over so much virtual time; `fresh` begins without what earlier ones knew."""

    def together(self, task: Any = None) -> AbstractContextManager[None]:
        """Let jobs (of a task) run in threads of this process meanwhile."""

    def redis(self) -> Any:
        """Return a client of the in-process Redis server."""
