"""The books of one world: every job, message and attempt as the worker saw them, and snapshots of them."""

from collections.abc import Callable, Container, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from pytest_jobs.queues.base import Envelope, Outcome
from pytest_jobs.records import Attempt, Delays, Effect, Job, JobList

__all__ = ["Entry", "Event", "Ledger"]

DEATHS = ("worker lost", "timed out")
FINAL = MappingProxyType({"succeeded": "succeeded", "failed": "failed", "rejected": "rejected", **dict.fromkeys(DEATHS, "failed")})
Decode = Callable[[str], tuple[tuple[Any, ...], dict[str, Any]]]


class Event(NamedTuple):
    """One line of the timeline: a delivery, or something said about a job."""

    at: datetime
    job: str
    delivery: int
    attempt: int
    note: str


class Copy:
    """One message of a job: how often it lies in a queue, and whether a worker holds it."""

    __slots__ = ("envelope", "ready", "unacked")

    def __init__(self, envelope: Envelope) -> None:
        self.envelope = envelope
        self.ready = 0
        self.unacked = 0


class Entry:
    """What is known of one job; the mutable side of `records.Job`."""

    __slots__ = (
        "attempts", "backs_off", "before", "children", "copies", "delays", "deliveries", "duplicate", "error", "extra", "finished_at", "first",
        "id", "injected", "last", "name", "parent", "payload", "published_at", "queue", "running", "settled", "state", "value",
    )  # fmt: skip

    def __init__(self, envelope: Envelope, published_at: datetime, parent: str | None) -> None:
        self.id = envelope.id
        self.name = envelope.name
        self.queue = envelope.queue
        self.first = self.last = envelope
        self.published_at = published_at
        self.parent = parent
        self.children: list[str] = []
        self.before = 0
        self.attempts: list[Attempt] = []
        self.delays: list[float] = []
        self.injected: list[str] = []
        self.backs_off = False
        self.copies: dict[str, Copy] = {}
        self.state: str | None = None
        self.value: Any = None
        self.error: BaseException | None = None
        self.finished_at: datetime | None = None
        self.running = 0
        self.deliveries = 0
        self.duplicate = False
        self.extra: set[int] = set()
        self.payload: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self.settled = ""

    def conclude(self, state: str, value: Any, error: BaseException | None, at: datetime) -> None:
        """Keep the first outcome: it is what a caller sees."""
        if self.state is None:
            self.state, self.value, self.error, self.finished_at = state, value, error, at
            self.before = len(self.children)


class Ledger:
    """Owns the entries of one world."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self.entries: dict[str, Entry] = {}
        self.events: list[Event] = []
        self.live = 0
        self._tags: dict[str, Entry] = {}

    # Messages

    def published(self, envelope: Envelope, now: datetime, running: Entry | None, number: int = -1) -> Entry:
        """Enter a new message, which that attempt of a running job made: of a new job, a retry, or a replacement."""
        entry = self.entries.get(envelope.id)
        if entry is None:
            parent = envelope.parent or (running.id if running is not None else None)
            entry = self.entries[envelope.id] = Entry(envelope, now, parent)
            above = self.entries.get(parent) if parent is not None else None
            if above is not None:
                extra = (number if above is running else len(above.attempts) - 1) in above.extra
                entry.duplicate = above.duplicate or (extra and self._repeats(above, entry.name))
                above.children.append(entry.id)
        elif envelope.retries:
            wait = (envelope.eta - now).total_seconds() if envelope.eta is not None else 0.0
            entry.delays.append(round(max(wait, 0.0), 6))
        elif running is None or number not in running.extra:
            entry.duplicate = False
        self.put(envelope)
        return entry

    def _repeats(self, above: Entry, name: str) -> bool:
        """Whether an extra attempt publishes what was published before; one of a job that gave up may be the first to do so."""
        if above.state != "failed" or not above.injected:
            return True
        names = [self.entries[child].name if child in self.entries else "" for child in above.children]
        return names[above.before :].count(name) < names[: above.before].count(name)

    def put(self, envelope: Envelope) -> None:
        """A copy of a message lies in a queue."""
        entry = self.entries.get(envelope.id)
        if entry is None:
            return
        copy = entry.copies.get(envelope.tag)
        if copy is None:
            copy = entry.copies[envelope.tag] = Copy(envelope)
            self.live += 1
        copy.envelope = envelope
        copy.ready += 1
        self._tags[envelope.tag] = entry

    def fetched(self, envelope: Envelope) -> Entry | None:
        """A worker holds a copy now."""
        entry = self.entries.get(envelope.id)
        if entry is None:
            return None
        copy = entry.copies.get(envelope.tag)
        if copy is None:
            copy = entry.copies[envelope.tag] = Copy(envelope)
            self.live += 1
        copy.ready = max(copy.ready - 1, 0)
        copy.unacked += 1
        entry.last = envelope
        entry.deliveries += 1
        return entry

    def holds(self, tag: str) -> bool:
        """Whether a worker holds the message of this tag unacknowledged."""
        entry = self._tags.get(tag)
        copy = entry.copies.get(tag) if entry is not None else None
        return copy is not None and copy.unacked > 0

    def dropped(self, envelope: Envelope) -> None:
        """A copy left its queue and reached nobody."""
        entry = self.entries.get(envelope.id)
        if entry is not None and envelope.tag in entry.copies:
            entry.copies[envelope.tag].ready -= 1
            self._prune(entry, envelope.tag)

    def settled(self, tag: str, how: str) -> None:
        """The broker forgot (or took back) what a worker held under this tag."""
        entry = self._tags.get(tag)
        if entry is None:
            return
        entry.settled = how
        copy = entry.copies.get(tag)
        if copy is not None:
            if how == "dropped":
                copy.ready -= 1
            else:
                copy.unacked = 0
            self._prune(entry, tag)

    def _prune(self, entry: Entry, tag: str) -> None:
        copy = entry.copies[tag]
        if copy.ready <= 0 and copy.unacked <= 0:
            del entry.copies[tag]
            self.live -= 1
            self._tags.pop(tag, None)

    def forget(self, known: Container[str]) -> None:
        """Forget the jobs that came since, with their results and events; none of them may still wait."""
        for job in [job for job in self.entries if job not in known]:
            del self.entries[job]
        self.events = [event for event in self.events if event.job in self.entries]

    # Attempts

    def begin(self, entry: Entry, at: datetime, retries: int, redelivered: bool) -> int:
        """Open an attempt; return its index."""
        entry.running += 1
        number = len(entry.attempts) + 1
        entry.attempts.append(Attempt(number, at, None, "running", redelivered=redelivered, retries=retries))
        return number - 1

    def end(
        self, entry: Entry, index: int, outcome: Outcome, at: datetime, effects: tuple[Effect, ...], fault: str | None
    ) -> Attempt:
        """Close an attempt, and the job when this is its first outcome."""
        entry.running -= 1
        before = entry.attempts[index]
        attempt = entry.attempts[index] = Attempt(
            before.number, before.started_at, at, outcome.outcome, outcome.error, outcome.value, before.redelivered,
            before.retries, fault, effects,
        )  # fmt: skip
        if outcome.outcome in FINAL and not (outcome.outcome in DEATHS and entry.copies):
            entry.conclude(FINAL[outcome.outcome], outcome.value, outcome.error, at)
        return attempt

    def note(self, at: datetime, job: str, delivery: int, attempt: int, note: str) -> None:
        """Write a line of the timeline."""
        self.events.append(Event(at, job, delivery, attempt, note))

    # Snapshots

    def state(self, entry: Entry, now: datetime) -> str:
        """Name the state a job is in."""
        if entry.running:
            return "running"
        if entry.state is not None:
            return entry.state
        waiting = [copy.envelope for copy in entry.copies.values()]
        if not waiting:
            return "lost"
        if all(envelope.retries for envelope in waiting):
            return "retrying"
        return "scheduled" if all(envelope.eta and envelope.eta > now for envelope in waiting) else "pending"

    def job(self, entry: Entry, now: datetime) -> Job:
        """Return a job as it stands."""
        return Job(
            entry.id, entry.name, lambda: self._payload(entry), entry.queue, self.state(entry, now),
            entry.error if entry.state is not None else None, tuple(entry.attempts), Delays(entry.delays),
            entry.published_at, entry.finished_at, entry.value, lambda: self._relatives(entry, now),
        )  # fmt: skip

    def jobs(self, now: datetime, *states: str) -> JobList:
        """Return the jobs in any of these states, in publish order; without states, all."""
        entries = self.entries.values()
        if states:
            return JobList(self.job(entry, now) for entry in entries if self.state(entry, now) in states)
        return JobList(self.job(entry, now) for entry in entries)

    def _payload(self, entry: Entry) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        if entry.payload is None:
            entry.payload = self._decode(entry.first.raw)
        return entry.payload

    def _relatives(self, entry: Entry, now: datetime) -> tuple[Job | None, JobList]:
        parent = self.entries.get(entry.parent) if entry.parent is not None else None
        children = JobList(self.job(self.entries[child], now) for child in entry.children)
        return (self.job(parent, now) if parent is not None else None), children
