"""One execution of a delivery: the body, its effects, its faults, its record."""

import inspect
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_jobs.dying import innermost
from pytest_jobs.errors import UsageError, error_text
from pytest_jobs.heldlocks import held_locks
from pytest_jobs.injected import mark_injected
from pytest_jobs.ledger import Entry
from pytest_jobs.probes.base import Transient
from pytest_jobs.queues.base import Envelope, Outcome
from pytest_jobs.records import Attempt, Effect

if TYPE_CHECKING:
    from pytest_jobs.hosting import Hosting

__all__ = ["Execution"]
__tracebackhide__ = True

STRETCH = 500  # lines of project code in which nothing happens, after which no more are looked at until something does


class Execution:
    """Owns one attempt while it runs."""

    def __init__(
        self, worker: "Hosting", entry: Entry, retries: int, redelivered: bool, tag: str, extra: bool
    ) -> None:
        self.worker = worker
        self.entry = entry
        self.extra = extra
        self.retries = retries
        self.disturbed = not extra and worker.disturbs(entry)
        self.entered = False
        self.began = False
        self.child_only = False
        self.soft_struck = False
        self.hung = ""
        self.naps = 0
        self.graceful = False
        self.stops_at = math.inf
        self.timed_out: float | None = None
        self.started = 0.0
        self._at: tuple[str, int] | None = None
        self._quiet = 0
        self.outer: tuple[Any, Any] = (None, None)
        self.limits: tuple[float | None, float | None] = (None, None)
        self.trace: Any = None
        self._run: Any = None
        self.value: Any = None
        self.error: BaseException | None = None
        self.fault: str | None = None
        self.effects: list[Effect] = []
        copy = entry.copies.get(tag)
        self.envelope = copy.envelope if copy is not None else entry.last
        self.delivery = worker.number_of(tag)
        entry.settled = ""
        self.index = worker.ledger.begin(entry, worker.clock.now, retries, redelivered)
        if extra:
            entry.extra.add(self.index)

    @property
    def where(self) -> str:
        """The line of project code that runs, `billing/tasks.py:42`; empty where lines are not seen."""
        self._locate()
        return self.worker.source.label(*self._at) if self._at is not None else ""

    @property
    def attempt(self) -> Attempt:
        """The record of this execution."""
        return self.entry.attempts[self.index]

    def run(self, run: Callable[[], Outcome]) -> Outcome:
        """Run the delivery to its end and record it."""
        try:
            outcome = run()
        except BaseException as error:
            from pytest_jobs.points import Killed

            self._close(Outcome("killed" if isinstance(error, Killed) else "aborted", error=None))
            raise
        return self._close(outcome)

    def _close(self, outcome: Outcome) -> Outcome:
        if outcome.outcome == "succeeded":
            outcome = Outcome("succeeded", self.value)
        elif self.error is not None and type(self.error) is type(outcome.error):
            outcome = Outcome(outcome.outcome, None, self.error)
        ledger, now = self.worker.ledger, self.worker.clock.now
        ledger.end(self.entry, self.index, outcome, now, tuple(self.effects), self.fault)
        if not self.entered and outcome.outcome == "succeeded":
            ledger.note(now, self.entry.id, self.delivery, 0, "deduplicated by the worker, acked")
            self.entry.attempts.pop()
            return outcome
        ledger.note(now, self.entry.id, self.delivery, self.attempt.number, self.entry.settled or "not acked")
        return outcome

    def body(self, task: Any, run: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the task's own body."""
        self.began = True

        def faulty() -> Any:
            return self.worker.faults.around_task(task.name, self, lambda: run(*args, **kwargs))

        return self._ended(faulty) if self.entered else self._enter(task, run, faulty)

    def call(self, task: Any, run: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run what lies around the task's body, a part of it to whoever wrote it."""
        return self._enter(task, task.run, lambda: run(*args, **kwargs))

    def _enter(self, task: Any, run: Callable[..., Any], work: Callable[[], Any]) -> Any:
        self.entered = True
        self.entry.backs_off = bool(getattr(task, "retry_backoff", False))  # then waits are drawn at random, and may be none
        self.started = self.worker.clock.timestamp
        if self.worker.source is None and self.limits != (None, None):
            self.worker.source = self.worker.find_source()
        self._run = run
        try:
            value = self._ended(work if self._is_safe() else lambda: self._traced(work))
        except BaseException:
            if self.trace is not None:
                self.trace.refuse()
            self.worker.recorder.turn()
            raise
        self.worker.recorder.turn()
        if self.trace is not None:
            self.trace.refuse()
        return value

    def _ended(self, work: Callable[[], Any]) -> Any:
        """Keep what the work returns or raises: what lies around a body has the last word."""
        try:
            self.value = work()
        except BaseException as error:
            if self.error is None or type(error) is type(self.error):
                self.error = error
            raise
        return self.value

    def _is_safe(self) -> bool:
        """Whether nothing can strike this body, or no more: then nobody looks at its lines."""
        worker = self.worker
        if worker.source is None:
            return True
        unarmed = worker.route.over and not worker.faults.all and worker.baton is None and worker.rival is None
        return unarmed and self.limits == (None, None)

    def _late_trace(self) -> Any:
        """Make the trace of a body that nobody expected to be killed."""
        self.worker.source = self.worker.source or self.worker.find_source()
        return self._new_trace(None)

    def _traced(self, work: Callable[[], Any]) -> Any:
        """Run the body where it can be killed, seeing its lines when the schedule is about points."""
        worker = self.worker
        lines = (worker.route.lines and self.disturbed) or bool(worker.faults.lines) or worker.rival is not None
        lines = lines or (worker.baton is not None and worker.baton.at_lines)
        self.trace = self._new_trace(self._line if lines else None)
        return self.trace.run(work)

    def _new_trace(self, on_line: Callable[[str, int], None] | None) -> Any:
        from pytest_jobs.points import Trace

        worker = self.worker
        code = getattr(inspect.unwrap(self._run), "__code__", None)
        if code is not None:
            worker.source.include(code.co_filename)
        return Trace(worker.watch, on_line, self, Execution.run.__code__)

    def _line(self, filename: str, line: int) -> None:
        worker = self.worker
        if worker.rival is not None:
            worker.rival.pause()
        elif worker.baton is not None:
            worker.baton.pause()
        self._at = filename, line
        self._quiet += 1
        if self._quiet > STRETCH or worker.route.over:
            self._hush()
        if worker.faults.lines:
            worker.faults.at_line(filename, line)
        worker.route.line(self)

    def _hush(self) -> None:
        """Look at no more lines until something happens, where all of them are one class of points."""
        worker = self.worker
        if worker.faults.lines or worker.baton is not None or (not worker.route.over and worker.route.signature()):
            self._quiet = 0
        else:
            self.trace.hush()

    def _happens(self) -> None:
        self._quiet = 0
        if self.trace is not None and self.trace.hushed and not self.worker.route.over:
            self._locate()
            self.trace.listen()

    def _locate(self) -> None:
        """Find the line that runs, where none are looked at."""
        source = self.worker.source
        if source is not None and (self.trace is None or self.trace.hushed):
            self._at = innermost(sys._getframe(1), Execution.run.__code__, source.is_project) or self._at

    # What happens to it

    def kill(self, how: str, child: bool = False) -> NoReturn:
        """Die here: no cleanup runs, nothing is acknowledged."""
        self.fault = self.fault or how
        self.child_only = child
        if not self.entered:
            raise UsageError(f"{how} struck outside the body of {self.entry.name}, where nothing can be killed")
        if self.trace is None:
            self.trace = self._late_trace()
        self.trace.kill()
        raise AssertionError("a killed trace goes on")

    def hang(self, how: str) -> None:
        """Let virtual time pass until a time limit strikes; without one, die and let the test be told."""
        self.fault = how
        soft, hard = self.limits
        self.sleep(max(limit for limit in (soft, hard, 0.0) if limit is not None))
        self.hung = how
        self.kill(how)

    def sleep(self, length: float) -> None:
        """Let virtual time pass in the task; the earlier of its time limits (seconds) strikes first."""
        self.naps += 1
        self.worker.napped(self)
        soft, hard = self.limits
        waited = self.worker.clock.timestamp - self.started
        ends = waited + length
        window = self.stops_at - self.worker.clock.timestamp
        if length > window and not any(limit is not None and limit - waited <= window for limit in (soft, hard)):
            self._pass(max(window, 0.0))
            self.stop()
        if soft is not None and not self.soft_struck and ends >= soft and (hard is None or soft <= hard):
            self.soft_struck = True
            self._pass(max(soft - waited, 0.0))
            raise self.worker.queue.soft_limit(soft)
        if hard is not None and ends >= hard:
            self._pass(max(hard - waited, 0.0))
            self.timed_out = hard
            self.kill(self.fault or f"its time limit of {hard:g} s struck", child=True)
        self._pass(length)

    def _pass(self, length: float) -> None:
        if self.worker.baton is None or not self.worker.baton.sleep(length):
            self.worker.pass_time(length)

    def stop(self) -> None:
        """Be stopped by a cold shutdown: the process ends here, and closes its connections in order."""
        self.graceful = True
        self.kill("stopped by a cold shutdown")

    def fail(self, error: BaseException, how: str) -> NoReturn:
        """Raise an injected error here."""
        self.fault = how
        self.entry.injected.append(error_text(error))
        raise mark_injected(error, self.worker.route.schedule)

    def overlap(self, how: str) -> None:
        """Let a second delivery of the same message run to its end before this one goes on."""
        self.fault = how
        self.worker.overlap(self)

    @property
    def locks(self) -> list[Any]:
        """The locks in memory that are held now and that the task's code names, or a library's that called it or that it calls."""
        if self.trace is None:
            return []
        around = ("pytest_jobs.", "celery.")
        return held_locks((each for each in self.trace.frames() if not str(each.f_globals.get("__name__")).startswith(around)), lambda _: True)

    def spawned(self, envelope: Envelope) -> None:
        """A job was published by this one."""
        retry = envelope.id == self.entry.id
        label = f"retry {envelope.name}" if retry else f"publish {envelope.name}"
        self.record(Effect("publish", f"publish:{envelope.name}", label, safe=True))

    def record(self, effect: Effect) -> None:
        """Write down what the task did."""
        self._happens()
        self.effects.append(effect)
        self.worker.effects.append(effect)

    # The sink of the probes

    def before(self, effect: Effect, error: Transient | None) -> None:
        """Stand before an effect."""
        self._happens()
        if self.trace is not None:
            self.trace.refuse()
        self.worker.route.before(self, effect, error)

    def after(self, effect: Effect, error: Transient | None) -> None:
        """Stand after an effect and record it."""
        self.record(replace(effect, where=self.where) if self.where and not effect.where else effect)
        self.worker.route.after(self, effect, error)
