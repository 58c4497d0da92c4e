"""The story of a run: one line a delivery, made only when somebody reads it."""

from typing import TYPE_CHECKING

from pytest_jobs.errors import error_text
from pytest_jobs.ledger import Entry, Event
from pytest_jobs.records import Attempt, called
from pytest_jobs.render import timeline_line

if TYPE_CHECKING:
    from pytest_jobs.hosting import Hosting

__all__ = ["lines"]


def lines(worker: "Hosting", last: int | None = None) -> tuple[str, ...]:
    """Return the timeline of a worker's run, or its last lines."""
    events = worker.ledger.events
    shown = events if last is None else events[-last:]
    return tuple(_line(worker, event) for event in shown)


def _line(worker: "Hosting", event: Event) -> str:
    entry = worker.ledger.entries[event.job]
    elapsed = event.at - worker.began
    call = _call(worker, entry)
    if not event.attempt:
        return timeline_line(elapsed, event.delivery, call, event.note)
    attempt = entry.attempts[event.attempt - 1]
    return timeline_line(elapsed, event.delivery, call, ", ".join(_words(attempt, event.note)))


def _words(attempt: Attempt, settled: str) -> list[str]:
    words = ["redelivered"] if attempt.redelivered else []
    words += [f"retry {attempt.retries}"] if attempt.retries else []
    words += _by_fault(attempt) or [attempt.outcome]
    plain_retry = type(attempt.error).__name__ == "Retry"
    if attempt.error is not None and attempt.outcome != "requeued" and not plain_retry:
        words[-1] += f" {'with' if attempt.outcome == 'failed' else 'after'} {error_text(attempt.error)}"
    return [*words, settled]


def _by_fault(attempt: Attempt) -> list[str]:
    """Say where a fault struck, unless the error that it raised says so."""
    fault = attempt.fault or ""
    if attempt.outcome == "killed" and fault:
        return [fault if fault.startswith("killed") else f"killed by {fault}"]
    return [fault, attempt.outcome] if fault.startswith("overlapped") else []


def _call(worker: "Hosting", entry: Entry) -> str:
    job = worker.ledger.job(entry, worker.clock.now)
    return called(entry.name.rpartition(".")[2], job.args, job.kwargs)
