"""How the jobs of a world ended, and what is not at rest in it."""

from typing import TYPE_CHECKING

from pytest_jobs.errors import error_text
from pytest_jobs.injected import gave_up_with
from pytest_jobs.losses import why_lost
from pytest_jobs.world import Outcome

if TYPE_CHECKING:
    from pytest_jobs.ledger import Entry
    from pytest_jobs.worker import Worker

__all__ = ["left_over", "outcomes", "struck"]


def outcomes(worker: "Worker", gave_up: frozenset[str]) -> tuple[Outcome, ...]:
    """Return how each job ended; of those that gave up with an injected error only later attempts count."""
    counts: dict[str, int] = {}
    found = []
    for entry in worker.ledger.entries.values():
        if not entry.duplicate:
            number = counts[entry.name] = counts.get(entry.name, 0) + 1
            found.append(_outcome(worker, entry, number, entry.id in gave_up))
    return tuple(found)


def _outcome(worker: "Worker", entry: "Entry", number: int, gave_up: bool) -> Outcome:
    state = worker.ledger.state(entry, worker.clock.now)
    counted = entry.attempts
    died_of = error_text(entry.error) if entry.injected and state == "failed" and not gave_up else ""
    if gave_up:
        counted = [attempt for attempt in counted if not gave_up_with(entry, attempt.error)]
        state = counted[-1].outcome if counted else state
    attempts = tuple(
        (attempt.outcome, attempt.value if attempt.outcome == "succeeded" else error_text(attempt.error)) for attempt in counted
    )
    extra = frozenset() if gave_up else frozenset(entry.extra)
    delays = () if entry.backs_off else tuple(entry.delays)
    return Outcome(entry.name, number, attempts, state, extra, tuple(entry.injected), delays, died_of, gave_up)


def left_over(worker: "Worker") -> tuple[str, ...]:
    """Say which jobs still wait, and which are lost."""
    now = worker.clock.now
    left = [f"{job.name} is {job.state}" for job in worker.ledger.jobs(now, "pending", "scheduled", "retrying")]
    return (*left, *(f"{job.name} is lost: {why_lost(job.attempts)}" for job in worker.ledger.jobs(now, "lost")))


def struck(worker: "Worker") -> tuple[tuple[str, frozenset[str]], ...]:
    """Return the tasks that met a fault or came again, each with what its attempts did."""
    found: dict[str, frozenset[str]] = {}
    for entry in worker.ledger.entries.values():
        if entry.extra or any(attempt.fault for attempt in entry.attempts):
            effects = [effect for attempt in entry.attempts for effect in attempt.effects]
            found[entry.name] = found.get(entry.name, frozenset()).union(*((each.target, each.label) for each in effects))
    return tuple(found.items())
