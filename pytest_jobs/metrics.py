"""The figures of the queues in one world, in virtual time."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pytest_jobs.ledger import Ledger

__all__ = ["Metrics", "measured"]


@dataclass(frozen=True, slots=True)
class Metrics:
    """What a dashboard would show now.

    Attributes:
        depth: How many messages lie in each queue, those that wait for a time in a worker not counted.
        waiting: How many messages wait for a time: an ETA, a countdown, a retry.
        oldest: How long the oldest message that could run has waited, in seconds; 0.0 when none waits.
        succeeded: How many jobs succeeded.
        dead: How many jobs failed for good.
        lost: How many jobs were acknowledged or dropped without an outcome.
        retries: How many retries were published.
        waited: The longest that a job of each queue waited, from when it could run to its first attempt, in seconds.
        runtime: The seconds of virtual time that each task's attempts took in all.
    """

    depth: Mapping[str, int]
    waiting: int
    oldest: float
    succeeded: int
    dead: int
    lost: int
    retries: int
    runtime: Mapping[str, float]
    waited: Mapping[str, float]


def measured(ledger: Ledger, now: datetime) -> Metrics:
    """Sum a ledger up."""
    depth: Counter[str] = Counter()
    states: Counter[str] = Counter()
    runtime: dict[str, float] = {}
    waited: dict[str, float] = {}
    waiting, oldest, retries = 0, 0.0, 0
    for entry in ledger.entries.values():
        states[ledger.state(entry, now)] += 1
        retries += len(entry.delays)
        for copy in entry.copies.values():
            eta = copy.envelope.eta
            if eta is not None and eta > now:
                waiting += 1
            else:
                oldest = max(oldest, (now - max(entry.published_at, eta or entry.published_at)).total_seconds())
            depth[copy.envelope.queue] += max(copy.ready, 0)
        if entry.attempts:
            could = max(entry.published_at, entry.first.eta or entry.published_at)
            wait = (entry.attempts[0].started_at - could).total_seconds()
            waited[entry.queue] = max(waited.get(entry.queue, 0.0), wait)
        for attempt in entry.attempts:
            took = ((attempt.finished_at or now) - attempt.started_at).total_seconds()
            runtime[entry.name] = runtime.get(entry.name, 0.0) + took
    return Metrics(
        {queue: count for queue, count in depth.items() if count}, waiting, oldest, states["succeeded"],
        states["failed"] + states["rejected"], states["lost"], retries, runtime, waited,
    )  # fmt: skip
