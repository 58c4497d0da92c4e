"""Several workers on several queues: which messages each of them holds, and which of their children are free."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from pytest_jobs.baton import Baton
from pytest_jobs.errors import UsageError
from pytest_jobs.queues.base import Envelope

__all__ = ["Crew"]
__tracebackhide__ = True


class _Member:
    """One worker: the queues it consumes, what it holds, and what its children do.

    Attributes:
        limit: How many messages it takes without having acknowledged them; 0: what its children are free for; None: all there are.
        held: Jobs it has received and not begun.
        messages: What it received, by tag, and may not have acknowledged yet.
    """

    def __init__(self, queues: frozenset[str], children: int, limit: int | None) -> None:
        self.queues = queues
        self.children = children
        self.limit = limit
        self.held: list[Callable[[], Any]] = []
        self.messages: dict[str, Envelope] = {}
        self._ended: list[Callable[[], bool]] = []

    @property
    def free(self) -> int:
        self._ended = [ended for ended in self._ended if not ended()]
        return self.children - len(self._ended)

    def has_room(self, now: datetime, unacked: Callable[[str], bool]) -> bool:
        """Whether it takes another message; one that waits for its time does not count, as Celery raises the limit for it."""
        if self.limit is None:
            return True
        if self.limit == 0:
            return self.free > len(self.held)
        self.messages = {tag: envelope for tag, envelope in self.messages.items() if unacked(tag)}
        return sum(each.eta is None or each.eta <= now for each in self.messages.values()) < self.limit

    def begin(self, baton: Baton) -> bool:
        began = False
        while self.held and self.free:
            self._ended.append(baton.begin(self.held.pop(0)))
            began = True
        return began


class Crew:
    """Owns the workers of one call.

    Args of the constructor:
        workers: The number of children of each worker, by its queues: names with commas between them; a list for several workers.
        limit_of: Returns how many messages a worker with so many children takes (see `_Member`).
        unacked: Tells whether a message is held unacknowledged, by its tag.
    """

    def __init__(self, workers: Mapping[str, Any], limit_of: Callable[[int], int | None], unacked: Callable[[str], bool]) -> None:
        if not isinstance(workers, Mapping) or not workers:
            raise UsageError(f"jobs.settle was given workers={workers!r}; allowed is a mapping such as {{'celery': 1, 'bulk': 4}}")
        self._unacked = unacked
        self._members: list[_Member] = []
        self._turn = 0
        for names, given in workers.items():
            if not isinstance(names, str) or not all(name.strip() for name in names.split(",")):
                raise UsageError(f"jobs.settle was given a worker of the queues {names!r}; allowed are names with commas between them")
            for children in given if isinstance(given, list) and given else [given]:
                if isinstance(children, bool) or not isinstance(children, int) or children < 1:
                    raise UsageError(
                        f"jobs.settle was given {given!r} children for {names!r}; "
                        "allowed is a whole number from 1, or a list of such numbers for several workers"
                    )
                queues = frozenset(name.strip() for name in names.split(","))
                self._members.append(_Member(queues, children, limit_of(children)))

    def receive(self, now: datetime, pop: Callable[[frozenset[str]], Envelope | None]) -> Iterator[Envelope]:
        """Let each worker that has room take the next message of its queues, in turn, beginning after the one that took the last."""
        first = self._turn
        for number in (*range(first, len(self._members)), *range(first)):
            member = self._members[number]
            envelope = pop(member.queues) if member.has_room(now, self._unacked) else None
            if envelope is not None:
                self._turn = (number + 1) % len(self._members)
                for each in self._members:  # which may hold an older copy under the same tag
                    each.messages.pop(envelope.tag, None)
                member.messages[envelope.tag] = envelope
                yield envelope

    def take_on(self, tag: str, queue: str, work: Callable[[], Any]) -> None:
        """Hold a job until a child is free for it: of the worker that received its message."""
        received = [member for member in self._members if tag in member.messages]
        consuming = [member for member in self._members if queue in member.queues]
        (received or consuming)[-1].held.append(work)

    def begin(self, baton: Baton) -> bool:
        """Let free children begin what is held; return whether one did."""
        began = [member.begin(baton) for member in self._members]
        return any(began)
