"""One execution of a delivery: the body, its effects, its faults, its record."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pytest_jobs.ledger import Entry
from pytest_jobs.probes.base import Transient
from pytest_jobs.queues.base import Envelope, Outcome
from pytest_jobs.records import Attempt, Effect

if TYPE_CHECKING:
    from pytest_jobs.worker import Worker

__all__ = ["Execution"]
__tracebackhide__ = True


class Execution:
    """Owns one attempt while it runs."""

    def __init__(
        self, worker: "Worker", entry: Entry, retries: int, redelivered: bool, tag: str, extra: bool
    ) -> None:
        self.worker = worker
        self.entry = entry
        self.extra = extra
        self.entered = False
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
    def attempt(self) -> Attempt:
        """The record of this execution."""
        return self.entry.attempts[self.index]

    def run(self, run: Callable[[], Outcome]) -> Outcome:
        """Run the delivery to its end and record it."""
        try:
            outcome = run()
        except BaseException as error:
            self._close(Outcome("aborted", error=error))
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
        self.entered = True
        try:
            self.value = self.worker.faults.around_task(task.name, self, lambda: run(*args, **kwargs))
        except BaseException as error:
            self.error = error
            raise
        return self.value

    def spawned(self, envelope: Envelope) -> None:
        """A job was published by this one."""
        retry = envelope.id == self.entry.id
        label = f"retry {envelope.name}" if retry else f"publish {envelope.name}"
        self.record(Effect("publish", f"publish:{envelope.name}", label, safe=True))

    def record(self, effect: Effect) -> None:
        """Write down what the task did."""
        self.effects.append(effect)
        self.worker.effects.append(effect)

    # The sink of the probes

    def before(self, effect: Effect, error: Transient | None) -> None:
        """Stand before an effect."""

    def after(self, effect: Effect, error: Transient | None) -> None:
        """Stand after an effect and record it."""
        self.record(effect)
