"""The worker: pull a message, wait for its time, deliver it, record what happened."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from pytest_jobs.clock import Clock, Delta, seconds
from pytest_jobs.errors import RunawayJobs, UsageError, WouldWaitForever
from pytest_jobs.execution import Execution
from pytest_jobs.faults import Faults
from pytest_jobs.ledger import Entry, Ledger
from pytest_jobs.probes.base import Recorder
from pytest_jobs.queues.base import Envelope, Outcome, Queue
from pytest_jobs.records import Effect, JobList
from pytest_jobs.render import runaway
from pytest_jobs.route import Route
from pytest_jobs.schedules import Schedule

__all__ = ["Worker"]
__tracebackhide__ = True

MOST_DELIVERIES = 10_000
MOST_OF_ONE_JOB = 1_000
YEAR = timedelta(days=366)


class _Call:
    """One call of drain, advance or settle: what it may run, and what it ran."""

    def __init__(self, worker: "Worker", accept: Callable[[Envelope], bool], limit: int | None) -> None:
        self.accept = accept
        self.limit = limit
        self.ran: dict[str, None] = {}
        self.seen: dict[str, int] = {}
        self.deliveries = 0
        self.held: list[Envelope] = []
        self.most = MOST_DELIVERIES + worker.ledger.live

    @property
    def full(self) -> bool:
        return self.limit is not None and self.deliveries >= self.limit


class Worker:
    """Owns the loop of one world, and answers what the queue's adapter tells."""

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
        self.route = Route(schedule, record, self._signature)
        self.signatures: Callable[[], Hashable] = lambda: None
        self.source: Any = None
        self.only: frozenset[str] = frozenset()
        self.on_death: Callable[[], None] = lambda: None
        self.keep_lost = False
        self.on_execute: Callable[[], None] = lambda: None
        self.wanted: frozenset[str] = frozenset()
        self._numbers: dict[str, int] = {}
        self._calls: list[_Call] = []
        self._postponed: list[tuple[datetime, Envelope]] = []
        self._extra: set[str] = set()
        self._again: list[Envelope] = []
        self.began = clock.now
        self.effects: list[Effect] = []

    # The loop

    def drain(
        self, task: str | None = None, queue: str | None = None, limit: int | None = None, spawned: bool = True
    ) -> JobList:
        """Run what is due now."""
        known = frozenset() if spawned else frozenset(self.ledger.entries)

        def accept(envelope: Envelope) -> bool:
            return (
                (task is None or envelope.name == task)
                and (queue is None or envelope.queue == queue)
                and (spawned or envelope.id in known)
            )

        with self._call(accept, limit) as call:
            self._run_ready(call)
        return self._ran(call)

    def advance(self, delta: Delta) -> JobList:
        """Move time, stopping at each due instant."""
        until = self.clock.now + timedelta(seconds=seconds(delta, "jobs.advance"))
        with self._call() as call:
            self._run_until(call, until)
            if self.clock.now < until:
                self.clock.move_to(until)
            self._run_ready(call)
        return self._ran(call)

    def settle(self, limit: Delta) -> JobList:
        """Jump from due time to due time until nothing is left."""
        until = self.clock.now + timedelta(seconds=seconds(limit, "jobs.settle"))
        with self._call() as call:
            self._run_until(call, until)
            due = self._next_due()
            if due is not None:
                raise self._runaway(f"something is still due at {due:%Y-%m-%d %H:%M:%S}, beyond the limit of settle", None)
        return self._ran(call)

    def wait(self, ready: Callable[[], bool], timeout: float | None, job: str) -> None:
        """Run the worker until a result is ready, moving time; stop at the timeout."""
        until = None if timeout is None else self.clock.now + timedelta(seconds=timeout)
        with self._call(nested=True) as call:
            while not ready():
                if self._step(call):
                    continue
                due = self._next_due()
                if due is not None and (until is None or due <= until):
                    self._move(due)
                elif until is not None:
                    self._move(until)
                    return
                else:
                    raise WouldWaitForever(self._why_never(job))

    def glance(self) -> None:
        """Run what is due when test code looks at a result."""
        if not self._calls and self.current is None:
            self.drain()

    def redeliver(self, envelope: Envelope) -> None:
        """Deliver a message once more and run what is due."""
        copy = self.queue.copy(envelope, redelivered=True)
        self._extra.add(copy.tag)
        self.queue.put(copy, front=True)
        self.drain()

    def slept(self, length: float) -> None:
        """Let `time.sleep` pass: in a task only time, in test code what becomes due runs too."""
        if self.current is None and not self._calls:
            self.advance(length)
        else:
            self.clock.advance(length)

    def run_inline(self, job_id: str, propagate: bool) -> None:
        """Settle at once after a publish from test code of an app that was eager."""
        self.settle(YEAR)
        entry = self.ledger.entries.get(job_id)
        if propagate and entry is not None and entry.error is not None:
            raise entry.error

    @contextmanager
    def _call(
        self, accept: Callable[[Envelope], bool] = lambda _: True, limit: int | None = None, nested: bool = False
    ) -> Iterator[_Call]:
        if self.current is not None and not nested:
            raise UsageError(
                f"jobs was told to run jobs from inside the task {self.current.entry.name}; only test code may do that"
            )
        call = _Call(self, accept, limit)
        self._calls.append(call)
        try:
            yield call
        finally:
            self._calls.remove(call)
            for envelope in reversed(call.held):
                self.queue.put(envelope, front=True)

    def _run_until(self, call: _Call, until: datetime) -> None:
        while True:
            self._run_ready(call)
            due = self._next_due()
            if due is None or due > until:
                return
            self._move(due)

    def _run_ready(self, call: _Call) -> None:
        while not call.full and self._step(call):
            pass

    def _step(self, call: _Call) -> bool:
        """Do one thing that is due now; return whether there was one."""
        now = self.clock.now
        for item in [item for item in self._postponed if item[0] <= now]:
            self._postponed.remove(item)
            self.queue.put(item[1])
        envelope = self.queue.pop()
        if envelope is None:
            return self._alive(lambda: self.queue.run_due(now))
        if not call.accept(envelope):
            self.ledger.dropped(envelope)
            call.held.append(envelope)
            return True
        self._deliver(call, envelope)
        return True

    def _deliver(self, call: _Call, envelope: Envelope) -> None:
        call.deliveries += 1
        seen = call.seen[envelope.id] = call.seen.get(envelope.id, 0) + 1
        if call.deliveries > call.most:
            raise self._runaway(f"{MOST_DELIVERIES:,} deliveries in one call", envelope)
        if seen > MOST_OF_ONE_JOB:
            raise self._runaway(f"{seen - 1:,} deliveries of one job in one call", envelope)
        struck = self.faults.on_delivery(envelope)
        if struck is not None:
            self._strike(struck.kind, struck, envelope)
            if struck.kind != "duplicate":
                return
        self._alive(lambda: self.queue.deliver(envelope))
        for again in self._again:
            self.queue.put(again, front=True)
        self._again.clear()

    def _alive(self, work: Callable[[], Any]) -> bool:
        """Let the worker work; when a kill takes it down, let a fresh one follow."""
        try:
            return work() is not False
        except BaseException as error:
            execution = self._killed_by(error)
            if execution is None:
                raise
        self.on_death()
        self.queue.kill()
        entry = execution.entry
        if self.keep_lost and entry.state is None and not entry.copies:
            self.queue.put(self.queue.copy(execution.envelope, redelivered=True))
        return True

    @staticmethod
    def _killed_by(error: BaseException) -> "Execution | None":
        if not error.__class__.__module__.startswith("pytest_jobs."):
            return None
        trace = getattr(error, "trace", None)
        execution = getattr(trace, "owner", None)
        if execution is not None:
            error.__traceback__ = None
            trace.close()
        return execution if isinstance(execution, Execution) else None

    def overlap(self, execution: Execution) -> None:
        """Deliver the running message again, to its end, while the first delivery stands still."""
        copy = self.queue.copy(execution.envelope, redelivered=True)
        self._extra.add(copy.tag)
        self.ledger.put(copy)
        with self._call(nested=True):
            self.current, kept = None, self.current
            try:
                self.queue.deliver(copy)
            finally:
                self.current = kept

    def disturbs(self, entry: Entry) -> bool:
        """Whether the schedule is about this job."""
        return not self.only or entry.name in self.only

    def _signature(self) -> Hashable:
        with self.recorder.paused():
            return self.signatures()

    def _strike(self, kind: str, fault: Any, envelope: Envelope) -> None:
        """Lose, double or hold back one message."""
        entry = self.ledger.entries[envelope.id]
        if kind == "duplicate":
            copy = self.queue.copy(envelope, redelivered=True)
            self._extra.add(copy.tag)
            self.queue.put(copy)
        else:
            self.ledger.dropped(envelope)
            if kind == "postpone":
                due = self.clock.now + timedelta(seconds=fault.by)
                self.ledger.put(envelope)
                entry.copies[envelope.tag].ready -= 1
                self._postponed.append((due, envelope))
        self.ledger.note(self.clock.now, entry.id, 0, 0, f"{fault.plan} struck")

    def _next_due(self) -> datetime | None:
        due = [instant for instant, _ in self._postponed]
        ahead = self.queue.next_due()
        return min([*due, ahead] if ahead is not None else due, default=None)

    def _move(self, instant: datetime) -> None:
        if instant > self.clock.now:
            self.clock.move_to(instant)

    def _ran(self, call: _Call) -> JobList:
        now = self.clock.now
        return JobList(self.ledger.job(self.ledger.entries[job], now) for job in call.ran if job in self.ledger.entries)

    # What the adapter tells

    def published(self, envelope: Envelope) -> None:
        self.ledger.published(envelope, self.clock.now, self.current.entry if self.current is not None else None)
        if self.current is not None:
            self.current.spawned(envelope)

    def put(self, envelope: Envelope) -> None:
        self.ledger.put(envelope)

    def fetched(self, envelope: Envelope) -> None:
        if self.ledger.fetched(envelope) is not None:
            self.deliveries.append(envelope)
            self._numbers[envelope.tag] = len(self.deliveries)

    def number_of(self, tag: str) -> int:
        """Return which delivery of the run a tag last came with, from 1."""
        return self._numbers.get(tag, len(self.deliveries))

    def settled(self, tag: str, how: str) -> None:
        self.ledger.settled(tag, how)

    def ended(self, job_id: str, state: str, error: BaseException | None) -> None:
        entry = self.ledger.entries.get(job_id)
        if entry is not None:
            entry.conclude(state, None, error, self.clock.now)
            self.ledger.note(self.clock.now, job_id, entry.deliveries, 0, state)

    def publishing(self) -> bool:
        return self.current is None and not self._calls

    def survived(self, error: BaseException) -> Execution | None:
        """Return the execution whose kill took only the pool's child."""
        execution = getattr(getattr(error, "trace", None), "owner", None)
        if isinstance(execution, Execution) and execution.child_only:
            execution.trace.close()
            self.on_death()
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
        outer, self.current = self.current, execution
        kept, self.recorder.sink = self.recorder.sink, execution
        try:
            outcome = execution.run(run)
        finally:
            self.current, self.recorder.sink = outer, kept
        if self.schedule.kind == "twice" and execution.attempt.outcome == "succeeded" and execution.disturbed:
            if not entry.duplicate:
                copy = self.queue.copy(entry.last, redelivered=True)
                self._extra.add(copy.tag)
                self._again.append(copy)
                self.route.struck = True
        return outcome

    def body(self, task: Any, run: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        current = self.current
        if current is None or current.entered or task.request.id != current.entry.id:
            return run(*args, **kwargs)
        return current.body(task, run, args, kwargs)

    # What is told when jobs do not come to rest

    def _runaway(self, reason: str, envelope: Envelope | None) -> RunawayJobs:
        from pytest_jobs.timeline import lines

        waiting = [entry for entry in self.ledger.entries.values() if entry.copies and entry.state is None]
        name = envelope.name if envelope is not None else (waiting[0].name if waiting else "?")
        scheduled = [self._scheduled_line(entry) for entry in waiting[:5]]
        return RunawayJobs(runaway(reason, name, len(waiting), lines(self, last=6), scheduled))

    def _scheduled_line(self, entry: Entry) -> str:
        etas = [copy.envelope.eta for copy in entry.copies.values() if copy.envelope.eta is not None]
        when = f" due {min(etas):%Y-%m-%d %H:%M:%S}" if etas else " due now"
        return f"{entry.name}{when}, after {len(entry.attempts)} attempts"

    def _why_never(self, job: str) -> str:
        entry = self.ledger.entries.get(job)
        if entry is None:
            return f"a result was waited for, but no job {job} was ever published here: it would wait for ever"
        state = self.ledger.state(entry, self.clock.now)
        return f"the result of {entry.name} was waited for, but the job is {state} and nothing is left to run"
