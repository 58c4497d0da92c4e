"""Several workers on several queues: which of their children is free for what."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pytest_jobs.baton import Baton
from pytest_jobs.errors import UsageError

__all__ = ["Crew"]
__tracebackhide__ = True


class _Member:
    """One worker: the queues it consumes, and what its children do."""

    def __init__(self, queues: frozenset[str], children: int) -> None:
        self.queues = queues
        self.children = children
        self.ended: list[Callable[[], bool]] = []

    @property
    def free(self) -> int:
        self.ended = [ended for ended in self.ended if not ended()]
        return self.children - len(self.ended)


class Crew:
    """Owns the workers of one call, and the jobs that they hold and have not begun.

    Args of the constructor:
        workers: The number of children of each worker, by its queues: names with commas between them.
    """

    def __init__(self, workers: Mapping[str, int]) -> None:
        if not isinstance(workers, Mapping) or not workers:
            raise UsageError(f"jobs.settle was given workers={workers!r}; allowed is a mapping such as {{'celery': 1, 'bulk': 4}}")
        self._members = []
        for names, children in workers.items():
            if not isinstance(names, str) or not all(name.strip() for name in names.split(",")):
                raise UsageError(f"jobs.settle was given a worker of the queues {names!r}; allowed are names with commas between them")
            if isinstance(children, bool) or not isinstance(children, int) or children < 1:
                raise UsageError(f"jobs.settle was given {children!r} children for {names!r}; allowed is a whole number from 1")
            self._members.append(_Member(frozenset(name.strip() for name in names.split(",")), children))
        self._held: list[tuple[str, Callable[[], Any]]] = []

    def take_on(self, queue: str, work: Callable[[], Any]) -> None:
        """Hold a job of a queue until a child is free for it."""
        self._held.append((queue, work))

    def hiring(self) -> Iterator[frozenset[str]]:
        """Name the queues of each worker that has a free child and no job in hand, once."""
        for member in self._members:
            if member.free and not any(queue in member.queues for queue, _ in self._held):
                yield member.queues

    def begin(self, baton: Baton) -> bool:
        """Let free children begin what is held; return whether one did."""
        began = False
        for held in list(self._held):
            queue, work = held
            member = next((each for each in self._members if queue in each.queues and each.free), None)
            if member is not None:
                self._held.remove(held)
                member.ended.append(baton.begin(work))
                began = True
        return began
