"""The worker: pull a message, wait for its time, deliver it, record what happened."""

import warnings
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from pytest_jobs.clock import Clock, Delta, seconds
from pytest_jobs.crew import Crew
from pytest_jobs.errors import JobsWarning, WouldWaitForever
from pytest_jobs.execution import Execution
from pytest_jobs.faults import Faults
from pytest_jobs.hosting import MOST_DELIVERIES, Call, Hosting
from pytest_jobs.probes.base import Recorder
from pytest_jobs.queues.base import Envelope, Queue
from pytest_jobs.records import JobList
from pytest_jobs.render_checks import hung, unlimited
from pytest_jobs.schedules import Schedule
from pytest_jobs.side_by_side import side_by_side
from pytest_jobs.stuck import MOST_KILLS, is_poison, runaway, why_never

__all__ = ["Worker"]
__tracebackhide__ = True

MOST_OF_ONE_JOB = 1_000
YEAR = timedelta(days=366)


class Worker(Hosting):
    """Owns the loop of one world: which delivery comes next, and when."""

    def __init__(
        self, queue: Queue, clock: Clock, recorder: Recorder, faults: Faults, schedule: Schedule, record: bool = False
    ) -> None:
        super().__init__(queue, clock, recorder, faults, schedule, record)
        self._postponed: list[tuple[datetime, Envelope]] = []
        self._told: set[str] = set()

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
        return self.move_to(self.clock.now + timedelta(seconds=seconds(delta, "jobs.advance")))

    def move_to(self, until: datetime) -> JobList:
        """Move time to an instant, stopping at each due one before it."""
        with self._call() as call:
            self._run_until(call, until)
            if self.clock.now < until:
                self.clock.move_to(until)
            self._run_ready(call)
        return self._ran(call)

    def settle(self, limit: Delta, crew: Crew | None = None) -> JobList:
        """Jump from due time to due time until nothing is left; with a crew, side by side as its workers would."""
        until = self.clock.now + timedelta(seconds=seconds(limit, "jobs.settle"))
        with self._call() as call:
            if crew is not None:
                side_by_side(self, call, until, crew)
                return self._ran(call)
            self._run_until(call, until)
            due = self.next_due()
            if due is not None:
                raise runaway(self, f"something is still due at {due:%Y-%m-%d %H:%M:%S}, beyond the limit of settle", None)
        return self._ran(call)

    def wait(self, ready: Callable[[], bool], timeout: float | None, job: str) -> None:
        """Run the worker until a result is ready, moving time; stop at the timeout."""
        until = None if timeout is None else self.clock.now + timedelta(seconds=timeout)
        with self._call(nested=True) as call:
            while not ready():
                if self._step(call):
                    continue
                due = self.next_due()
                if due is not None and (until is None or due <= until):
                    self._move(due)
                elif until is not None:
                    self._move(until)
                    return
                else:
                    raise WouldWaitForever(why_never(self, job))

    def glance(self) -> None:
        """Run what is due when test code looks at a result."""
        if not self._calls and self.current is None:
            self.drain()

    def redeliver(self, envelope: Envelope) -> None:
        """Deliver a message once more and run what is due."""
        self.again(envelope)
        self.drain()

    def again(self, envelope: Envelope) -> None:
        """Put another copy of a message before all others."""
        self.queue.put(self._another(envelope), front=True)

    def slept(self, length: float) -> None:
        """Let `time.sleep` pass: in a task only time, in test code what becomes due runs too."""
        if self.current is not None:
            self.current.sleep(length)
        elif self._calls:
            self.clock.advance(length)
        else:
            self.advance(length)

    def run_inline(self, job_id: str, propagate: bool) -> None:
        """Settle at once after a publish from test code of an app that was eager."""
        self.settle(YEAR)
        entry = self.ledger.entries.get(job_id)
        if propagate and entry is not None and entry.error is not None:
            raise entry.error

    def _run_until(self, call: Call, until: datetime) -> None:
        while True:
            self._run_ready(call)
            due = self.next_due()
            if due is None or due > until:
                return
            self._move(due)
            if not self._postponed:
                self.run_due()  # nothing else can have come since the last look

    def _run_ready(self, call: Call) -> None:
        while not call.full and self._step(call):
            pass

    def _step(self, call: Call) -> bool:
        """Do one thing that is due now; return whether there was one."""
        now = self.clock.now
        received = self.queue.take_received()
        if received is not None:
            self._carry_out(call, *received)
            return True
        self._put_postponed(now)
        envelope = self.queue.pop()
        if envelope is None:
            return self.run_due()
        if not call.accept(envelope):
            self.ledger.dropped(envelope)
            call.held.append(envelope)
            return True
        self.deliver(call, envelope)
        return True

    def _put_postponed(self, now: datetime) -> None:
        if not self._postponed:
            return
        for item in [item for item in self._postponed if item[0] <= now]:
            self._postponed.remove(item)
            self.queue.put(item[1])

    def run_due(self) -> bool:
        """Do what is due by its time; return whether there was anything."""
        now = self.clock.now
        self._put_postponed(now)
        done = self._alive(lambda: self.queue.run_due(now))
        self._follow_up()
        return done

    def deliver(self, call: Call, envelope: Envelope) -> None:
        """Deliver a message that was popped, under the faults of deliveries."""
        struck = self.faults.on_delivery(envelope)
        if struck is not None:
            self._strike(struck.kind, struck, envelope)
            if struck.kind != "duplicate":
                return
        if envelope.id in self.marked:
            self.marked.discard(envelope.id)
            envelope = self.queue.marked(envelope)
        self._carry_out(call, envelope.id, lambda: self.queue.deliver(envelope, self.baton is not None and self.crew is None))

    def _carry_out(self, call: Call, job_id: str, work: Callable[[], Any]) -> None:
        call.deliveries += 1
        seen = call.seen[job_id] = call.seen.get(job_id, 0) + 1
        if call.deliveries > call.most:
            raise runaway(self, f"{MOST_DELIVERIES:,} deliveries in one call", job_id)
        if seen > MOST_OF_ONE_JOB:
            raise runaway(self, f"{seen - 1:,} deliveries of one job in one call", job_id)
        self._alive(work)
        if is_poison(self.ledger.entries.get(job_id)):
            raise runaway(self, f"a poison message: it killed its worker {MOST_KILLS} times and came again each time", job_id)
        self._follow_up()

    def _follow_up(self) -> None:
        """Do what a job asked for that has ended: stop its worker, deliver it again."""
        if self.stopping:
            self.restart(kill=self.stopping == "kill")
        for again in self._again:
            self.queue.put(again, front=True)
        self._again.clear()

    def _alive(self, work: Callable[[], Any]) -> bool:
        """Let the worker work; when a kill takes it down, let a fresh one follow."""
        try:
            return work() is not False
        except BaseException as error:
            execution = self._killed_by(error)
            if self.rival is not None:
                self.rival.close()
            if execution is None:
                raise
        self.restart(kill=not execution.graceful)
        if execution.hung:
            raise AssertionError(hung(execution.entry.name, execution.hung, self._unlimited.get(execution.entry.name, "")))
        entry = execution.entry
        if self.keep_lost and entry.state is None and not entry.copies:
            self.kept += 1
            self.queue.put(self.queue.copy(execution.envelope, redelivered=True))
        return True

    def restart(self, kill: bool = False) -> None:
        """Stop the worker between two deliveries; the next one starts a fresh one."""
        self.stopping = ""
        if kill:
            self.queue.kill()
        else:
            self.queue.shutdown()

    def _killed_by(self, error: BaseException) -> "Execution | None":
        if not error.__class__.__module__.startswith("pytest_jobs."):
            return None
        trace = getattr(error, "trace", None)
        execution = getattr(trace, "owner", None)
        if trace is not None and execution is not None:
            error.__traceback__ = None
            trace.close(self.on_death)
        return execution if isinstance(execution, Execution) else None

    def _strike(self, kind: str, fault: Any, envelope: Envelope) -> None:
        """Lose, double or hold back one message."""
        entry = self.ledger.entries[envelope.id]
        if kind == "duplicate":
            self.queue.put(self._another(envelope))
        else:
            self.ledger.dropped(envelope)
            if kind == "postpone":
                due = self.clock.now + timedelta(seconds=fault.by)
                self.ledger.put(envelope)
                entry.copies[envelope.tag].ready -= 1
                self._postponed.append((due, envelope))
        self.ledger.note(self.clock.now, entry.id, 0, 0, f"{fault.plan} struck")

    def next_due(self) -> datetime | None:
        """When something becomes due by its time."""
        due = [instant for instant, _ in self._postponed]
        ahead = self.queue.next_due()
        return min([*due, ahead] if ahead is not None else due, default=None)

    def _move(self, instant: datetime) -> None:
        if instant > self.clock.now:
            self.clock.move_to(instant)

    def _ran(self, call: Call) -> JobList:
        for task, pool in self._unlimited.items():
            if task not in self._told:
                self._told.add(task)
                warnings.warn(JobsWarning(unlimited(task, pool)), stacklevel=3)
        now = self.clock.now
        return JobList(self.ledger.job(self.ledger.entries[job], now) for job in call.ran if job in self.ledger.entries)
