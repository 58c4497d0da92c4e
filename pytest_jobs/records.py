"""What happened: jobs, attempts and effects, as facts that never change."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self, SupportsIndex, TypeVar, overload

from pytest_jobs.errors import JobLost, JobNotFinished, UsageError, error_text
from pytest_jobs.losses import why_lost

__all__ = ["Attempt", "Delays", "Effect", "Job", "JobList", "called"]

T = TypeVar("T")
OPEN_STATES = frozenset({"pending", "scheduled", "running", "retrying"})


def called(name: str, args: Iterable[Any], kwargs: Mapping[str, Any]) -> str:
    """Write a call as Python does: `charge(7, cents=500)`."""
    given = [*map(repr, args), *(f"{key}={value!r}" for key, value in kwargs.items())]
    return f"{name}({', '.join(given)})"


class _Listed(tuple[T, ...]):
    """Lets a tuple equal a list, because tests compare with literals."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return super().__eq__(tuple(other) if isinstance(other, list) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = tuple.__hash__


class Delays(_Listed[float]):
    """The seconds each retry was told to wait; equals a list or tuple of numbers."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Effect:
    """Something a task did that outlives a crash.

    Attributes:
        kind: `sql`, `redis`, `cache`, `http`, `mail`, `file`, `object`, `mock`, `publish` or `call`.
        target: What it was done to, as `ignore` patterns match it: `payments`, `redis:lock:7`,
            `http:POST https://pay.example/charges`, `mail:ann@x.example`, `file:out/a.txt`, `mock:gateway.send`.
        label: What a reader sees: `INSERT payments`, `POST https://pay.example/charges`.
        safe: Whether doing it again is no difference by itself (it is judged by the state it leaves, or not at all).
        key: An idempotency key: doing it again with the same key is no difference.
        detail: What was sent, shortened, for the failure's evidence.
        where: The line of project code that did it, `billing/tasks.py:42`, where known.
        pending: Whether it waits for a commit to outlive a crash.
    """

    kind: str
    target: str
    label: str
    safe: bool = False
    key: str | None = None
    detail: str = ""
    where: str = ""
    pending: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """One execution of the task's body for a delivery.

    Attributes:
        number: 1 for the job's first attempt.
        started_at: When the body began, in virtual time.
        finished_at: When it ended, None while it runs.
        outcome: `running`, `succeeded`, `failed`, `retried`, `rejected`, `requeued`, `ignored`, `killed`, `timed out`
            or `worker lost`.
        error: What it raised.
        value: What it returned.
        redelivered: Whether the broker marked this delivery as one that had been delivered before.
        retries: How many retries the message had behind it.
        fault: The fault that struck, as it prints, or None.
        effects: What it did that outlives a crash, in order.
    """

    number: int
    started_at: datetime
    finished_at: datetime | None
    outcome: str
    error: BaseException | None = None
    value: Any = None
    redelivered: bool = False
    retries: int = 0
    fault: str | None = None
    effects: tuple[Effect, ...] = ()

    def __repr__(self) -> str:
        marks = [f"retries={self.retries}"] if self.retries else []
        marks += ["redelivered"] if self.redelivered else []
        marks += [error_text(self.error)] if self.error is not None else []
        return f"<Attempt {self.number}: {', '.join([self.outcome, *marks])}>"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Job:
    """One task invocation, from publish to its last outcome, as it stood when it was asked for.

    Tests get jobs from the `jobs` fixture and never make them.

    Attributes:
        id: The task id; two snapshots of one job are equal.
        name: The task's registered name.
        queue: The queue it was published to.
        state: `pending`, `scheduled`, `running`, `succeeded`, `failed`, `retrying`, `revoked`, `rejected` or `lost`.
        error: What its failed outcome raised, else None.
        attempts: Every execution of its body.
        delays: The seconds each retry was told to wait.
        published_at: When it was first published, in virtual time.
        finished_at: When its first outcome was stored, None before that.
    """

    id: str
    name: str
    _payload: Callable[[], tuple[tuple[Any, ...], Mapping[str, Any]]]
    queue: str
    state: str
    error: BaseException | None
    attempts: tuple[Attempt, ...]
    delays: Delays
    published_at: datetime
    finished_at: datetime | None
    _value: Any = None
    _relatives: Callable[[], tuple["Job | None", "JobList"]] = field(default=lambda: (None, JobList()))

    @property
    def args(self) -> tuple[Any, ...]:
        """The positional arguments, as a worker decodes them."""
        return self._payload()[0]

    @property
    def kwargs(self) -> Mapping[str, Any]:
        """The keyword arguments, as a worker decodes them."""
        return self._payload()[1]

    @property
    def succeeded(self) -> bool:
        """Whether its outcome is a success."""
        return self.state == "succeeded"

    @property
    def failed(self) -> bool:
        """Whether its outcome is a failure."""
        return self.state == "failed"

    @property
    def dead(self) -> bool:
        """Whether it failed for good: a permanent error, exhausted retries, or rejected."""
        return self.state in {"failed", "rejected"}

    @property
    def lost(self) -> bool:
        """Whether it was acknowledged or dropped without an outcome."""
        return self.state == "lost"

    @property
    def result(self) -> Any:
        """The value it returned.

        Raises:
            BaseException: The job's own error, when it failed, was revoked or rejected.
            JobLost: When it has no outcome and never will.
            JobNotFinished: When it has no outcome yet.
        """
        if self.state == "succeeded":
            return self._value
        if self.error is not None and self.state not in OPEN_STATES:
            raise self.error
        if self.state in OPEN_STATES:
            raise JobNotFinished(f"{self.name} is {self.state}: run it first, with jobs.settle() for example")
        raise JobLost(f"{self.name} is {self.state}: {why_lost(self.attempts)}")

    @property
    def parent(self) -> "Job | None":
        """The job that published it, None when the test did."""
        return self._relatives()[0]

    @property
    def children(self) -> "JobList":
        """The jobs that it published, in publish order."""
        return self._relatives()[1]

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, Job) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        tries = f", {len(self.attempts)} attempts" if len(self.attempts) > 1 else ""
        return f"<Job {called(self.name, self.args, self.kwargs)}: {self.state}{tries}>"


class JobList(_Listed[Job]):
    """Jobs in publish order; equals a list of the same jobs."""

    __slots__ = ()

    def __new__(cls, jobs: Iterable[Job] = ()) -> Self:
        return super().__new__(cls, jobs)

    def of(self, task: Any) -> "JobList":
        """Return the jobs of one task.

        Args:
            task: A task or its registered name.

        Raises:
            UsageError: When it is neither.
        """
        name = task if isinstance(task, str) else getattr(task, "name", None)
        if not isinstance(name, str):
            raise UsageError(f"of was given {task!r}; allowed is a task or its registered name")
        return JobList(job for job in self if job.name == name)

    @property
    def one(self) -> Job:
        """The only job.

        Raises:
            AssertionError: When there is none or more than one; it says what was there.
        """
        if len(self) == 1:
            return self[0]
        there = "\n".join(f"  {job!r}" for job in self[:20])
        more = f"\n  and {len(self) - 20} more" if len(self) > 20 else ""
        raise AssertionError(f"expected one job, found {len(self)}" + (f":\n{there}{more}" if self else ""))

    @overload
    def __getitem__(self, index: SupportsIndex) -> Job: ...
    @overload
    def __getitem__(self, index: slice) -> "JobList": ...
    def __getitem__(self, index: SupportsIndex | slice) -> "Job | JobList":
        return JobList(super().__getitem__(index)) if isinstance(index, slice) else super().__getitem__(index)

    def __repr__(self) -> str:
        return f"[{', '.join(map(repr, self))}]"
