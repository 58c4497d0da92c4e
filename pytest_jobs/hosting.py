"""What happens inside a delivery: the worker's answers to the queue's adapter, and what it writes down."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import get_ident
from typing import Any

from pytest_jobs.baton import Abandoned, Baton
from pytest_jobs.clock import Clock
from pytest_jobs.crew import Crew
from pytest_jobs.errors import UsageError
from pytest_jobs.execution import Execution
from pytest_jobs.faults import Faults
from pytest_jobs.ledger import Entry, Ledger
from pytest_jobs.probes.base import Recorder, why_alone
from pytest_jobs.queues.base import Envelope, Outcome, Queue
from pytest_jobs.records import Effect
from pytest_jobs.rival import NAPS, Rival
from pytest_jobs.route import WAITS, Route
from pytest_jobs.schedules import Schedule
from pytest_jobs.watchman import watched
from pytest_jobs.world import Early

__all__ = ["MOST_DELIVERIES", "Call", "Hosting"]
__tracebackhide__ = True

MOST_DELIVERIES = 10_000
ELSEWHERE = "somebody else holds a lock"
ONE_THREAD = "deliveries take turns in one thread"
OWN_THREAD = "the first one is in a thread that it started itself"


class Call:
    """One call of drain, advance or settle: what it may run, and what it ran."""

    def __init__(self, hosting: "Hosting", accept: Callable[[Envelope], bool], limit: int | None) -> None:
        self.accept = accept
        self.limit = limit
        self.ran: dict[str, None] = {}
        self.seen: dict[str, int] = {}
        self.deliveries = 0
        self.held: list[Envelope] = []
        self.most = MOST_DELIVERIES + hosting.ledger.live

    @property
    def full(self) -> bool:
        return self.limit is not None and self.deliveries >= self.limit


class Hosting:
    """Owns what is known of one world's deliveries, and the execution that is running."""

    def __init__(
        self, queue: Queue, clock: Clock, recorder: Recorder, faults: Faults, schedule: Schedule, record: bool = False
    ) -> None:
        self.queue = queue
        self.clock = clock
        self.recorder = recorder
        self.faults = faults
        self.schedule = schedule
        self.ledger = Ledger(queue.decode)
        self.current: Execution | None = None
        self.deliveries: list[Envelope] = []
        self.effects: list[Effect] = []
        self.began = clock.now
        self.route = Route(schedule, record, self._signature)
        self.signatures: Callable[[], Hashable] = lambda: None
        self.source: Any = None
        self.find_source: Callable[[], Any] = lambda: None
        self.watch: Any = None
        self.only: frozenset[str] = frozenset()
        self.on_death: Callable[[], None] = lambda: None
        self.on_execute: Callable[[], None] = lambda: None
        self.keep_lost = False
        self.kept = 0
        self.stopping = ""
        self.marked: set[str] = set()
        self.wanted: frozenset[str] = frozenset()
        self._numbers: dict[str, int] = {}
        self._calls: list[Call] = []
        self._extra: set[str] = set()
        self._again: list[Envelope] = []
        self.baton: Baton | None = None
        self.crew: Crew | None = None
        self.rival: Rival | None = None
        self._unlimited: dict[str, str] = {}
        self._early: list[tuple[str, str, str, Mapping[str, None]]] = []
        self._acked: set[str] = set()
        self.after_ack: list[Envelope] = []
        self.beside = False
        self._nested = 0

    def disturbs(self, entry: Entry) -> bool:
        """Whether the schedule is about this job."""
        return not self.only or entry.name in self.only

    @contextmanager
    def _call(
        self, accept: Callable[[Envelope], bool] = lambda _: True, limit: int | None = None, nested: bool = False
    ) -> Iterator[Call]:
        if self.current is not None and not nested:
            raise UsageError(
                f"jobs was told to run jobs from inside the task {self.current.entry.name}; only test code may do that"
            )
        call = Call(self, accept, limit)
        self._calls.append(call)
        try:
            yield call
        finally:
            self._calls.remove(call)
            for envelope in reversed(call.held):
                self.queue.put(envelope, front=True)

    def overlap(self, execution: Execution) -> None:
        """Deliver the running message again, to its end, while the first delivery stands still."""
        copy = self.queue.pop() if self.beside else None
        if copy is None:
            copy = self._another(execution.envelope)
            self.ledger.put(copy)
        if self.apart(execution):
            Rival(self, execution, lambda: self._deliver_nested(copy)).begin()
        else:
            with self.recorder.nesting(), suppress(Abandoned), watched(self._abandon, self.watch.apart):
                self._deliver_nested(copy)
        self.watch.refresh(execution.trace)

    def _deliver_nested(self, copy: Envelope) -> None:
        with self._call(nested=True):
            self.current, kept = None, self.current
            self._nested += 1
            try:
                self.queue.deliver(copy, at_once=True)
            finally:
                self._nested -= 1
                self.current = kept

    def closed(self, execution: Execution) -> str:
        """Say why no second delivery can run now, empty where one can: here, or in a thread of its own."""
        held = self.recorder.held()
        if not held and self.recorder.locking:
            return ELSEWHERE
        if not held and not self.apart(execution):
            return ""
        if self.beside or self.baton is not None:
            return ONE_THREAD
        if execution.trace is not None and execution.trace.thread != get_ident():
            return OWN_THREAD
        deadly = self.faults.deadly
        return f"{deadly.plan} is armed" if deadly is not None else why_alone(held)

    def apart(self, execution: Execution) -> bool:
        """Whether a second delivery needs a thread of its own, as it could wait for what this one holds."""
        return self.route.apart or self.recorder.holding or bool(execution.locks)

    def napped(self, execution: Execution) -> None:
        """Know that a task sleeps; one that runs inside another one and sleeps again and again waits for a lock of that."""
        if self._nested and self.rival is None and execution.naps > NAPS:
            self._abandon()

    def _abandon(self) -> None:
        self.route.closed = WAITS
        raise Abandoned

    def pass_time(self, length: float) -> None:
        """Let virtual time pass while a task runs; brokers hand out again what lies unacknowledged too long."""
        until = self.clock.now + timedelta(seconds=length)
        while (due := self.queue.redelivery_due()) is not None and due <= until:
            if due > self.clock.now:
                self.clock.move_to(due)
            self.queue.redeliver_due(due)
        if until > self.clock.now:
            self.clock.move_to(until)

    def _signature(self) -> Hashable:
        with self.recorder.paused():
            return self.signatures()

    def _another(self, envelope: Envelope) -> Envelope:
        """Make another copy of a message, marked as redelivered and noted as our doing."""
        copy = self.queue.copy(envelope, redelivered=True)
        self._extra.add(copy.tag)
        return copy

    def published(self, envelope: Envelope) -> None:
        entry, number = (self.current.entry, self.current.index) if self.current is not None else (None, -1)
        self.ledger.published(envelope, self.clock.now, entry, number)
        if entry is None or entry.id != envelope.id:
            by, where = (entry.name, self.current.where) if entry is not None and self.current is not None else ("", "")
            self._early += [(envelope.name, by, where, block) for block in self.recorder.open_blocks()]
        if self.current is not None:
            self.current.spawned(envelope)

    @property
    def early(self) -> tuple[Early, ...]:
        """The jobs that were published in a transaction that wrote something, before it committed."""
        told = (Early(task, by, tuple(wrote), where) for task, by, where, wrote in self._early if wrote)
        return tuple(dict.fromkeys(told))

    def put(self, envelope: Envelope) -> None:
        self.ledger.put(envelope)

    def fetched(self, envelope: Envelope) -> None:
        if envelope.tag in self._acked:
            self.after_ack.append(envelope)
        if self.ledger.fetched(envelope) is not None:
            self.deliveries.append(envelope)
            self._numbers[envelope.tag] = len(self.deliveries)

    def number_of(self, tag: str) -> int:
        """Return which delivery of the run a tag last came with, from 1."""
        return self._numbers.get(tag, len(self.deliveries))

    def settled(self, tag: str, how: str) -> None:
        if how == "acked":
            self._acked.add(tag)
        self.ledger.settled(tag, how)

    def ended(self, job_id: str, state: str, error: BaseException | None) -> None:
        entry = self.ledger.entries.get(job_id)
        if entry is not None:
            entry.conclude(state, None, error, self.clock.now)
            self.ledger.note(self.clock.now, job_id, entry.deliveries, 0, state)

    def publishing(self) -> bool:
        return self.current is None and not self._calls

    def outcome(self, job_id: str) -> tuple[str, Any, BaseException | None]:
        entry = self.ledger.entries.get(job_id)
        return ("pending", None, None) if entry is None else (self.ledger.state(entry, self.clock.now), entry.value, entry.error)

    def unlimited(self, task: str, pool: str) -> None:
        self._unlimited.setdefault(task, pool)

    def apply(self, job_id: str, tag: str, work: Callable[[], None]) -> None:
        """Run a delivery: at once, or with others in the threads of a pool, or by one of several workers."""
        if self.rival is not None and self.rival.awaited:
            self.rival.take_on(work)
        elif self.baton is None or self.baton.inside or self.rival is not None:
            work()
        elif self.crew is not None:
            self.crew.take_on(tag, self.ledger.entries[job_id].queue, work)
        else:
            self.baton.add(work)

    def survived(self, error: BaseException) -> Execution | None:
        """Return the execution whose kill took only the pool's child."""
        execution = getattr(getattr(error, "trace", None), "owner", None)
        if isinstance(execution, Execution) and execution.child_only:
            execution.trace.close(self.on_death)
            return execution
        return None

    def execute(
        self, job_id: str, retries: int, redelivered: bool, tag: str,
        limits: tuple[float | None, float | None], run: Callable[[], Outcome],
    ) -> Outcome:  # fmt: skip
        entry = self.ledger.entries[job_id]
        for call in self._calls:
            call.ran.setdefault(job_id)
        self.on_execute()
        execution = Execution(self, entry, retries, redelivered, tag, tag in self._extra)
        execution.limits = limits
        execution.outer = outer, kept = self.current, self.recorder.sink
        self.current = self.recorder.sink = execution
        try:
            outcome = execution.run(run)
        finally:
            self.current, self.recorder.sink = outer, kept
        if self.rival is not None and self.rival.first is execution:
            self.rival.finish()
        if outcome.outcome == "succeeded" and execution.entered and execution.disturbed and not entry.duplicate and self.route.doubles:
            self._again.append(self._another(entry.last))
        return outcome

    def body(self, task: Any, run: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        current = self.current
        if current is None or current.began or task.request.id != current.entry.id:
            return run(*args, **kwargs)
        return current.body(task, run, args, kwargs)

    def call(self, task: Any, run: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        current = self.current
        if current is None or current.entered or task.request.id != current.entry.id:
            return run(*args, **kwargs)
        return current.call(task, run, args, kwargs)
