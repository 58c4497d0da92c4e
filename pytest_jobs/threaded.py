"""Jobs in the threads of one worker, against the same jobs one after the other."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_jobs import render_checks
from pytest_jobs.baton import Baton, Stuck
from pytest_jobs.errors import UsageError
from pytest_jobs.fresh import fresh
from pytest_jobs.ignore import Ignore
from pytest_jobs.strain import check_count
from pytest_jobs.verdict import compare
from pytest_jobs.world import World

if TYPE_CHECKING:
    from pytest_jobs.session import Session

__all__ = ["threads"]
__tracebackhide__ = True

ROUNDS = 12
Call = tuple[tuple[Any, ...], dict[str, Any]]


def threads(session: "Session", task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], count: Any) -> None:
    """Run so many jobs of a task at once, in several interleavings, and compare.

    Raises:
        UsageError: When the task is none, or a fault is armed that kills or hangs.
        AssertionError: When an interleaving leaves what no order of the jobs leaves.
    """
    __tracebackhide__ = True
    check_count("jobs.check_threads", "threads", count, 2)
    found = session.queue.resolve(task)
    if found is None:
        raise UsageError(f"jobs.check_threads was given {task!r}; allowed is a task or its registered name")
    deadly = session.faults.deadly
    if deadly is not None:
        raise UsageError(f"jobs.check_threads cannot run while {deadly.plan} is armed: it would stop every thread")
    calls = _calls(args, kwargs, count)
    if session.replaying:
        _one_by_one(session, found, calls)
        return
    worker = session.worker
    worker.source = worker.source or session.source()
    ignore = Ignore(session.ignore)
    # Threads may write where one after the other nothing is written.
    once = _in_fresh_world(session, found, calls, None, session.whole_world)
    read = partial(session.world, frozenset(once.state))
    again = _in_fresh_world(session, found, calls, None, read)
    varying = compare(once, again, ignore)
    if varying.findings:
        raise AssertionError(render_checks.varies(found.name, varying))
    orders = _Orders(session, found, calls, read)
    for seed in range(ROUNDS):
        try:
            now = _in_fresh_world(session, found, calls, seed, read)
        except Stuck as stuck:
            raise AssertionError(render_checks.deadlocks(found.name, count, stuck.places)) from None
        compared = compare(once, now, ignore)
        if compared.findings and not any(not compare(world, now, ignore).findings for world in orders):
            raise AssertionError(render_checks.breaks(found.name, count, compared, seed + 1, ROUNDS))


class _Orders:
    """The worlds that jobs with different arguments leave in other orders, each made when it is first asked for.

    What one of them leaves too is no fault of the threads.
    """

    def __init__(self, session: "Session", task: Any, calls: Sequence[Call], read: Callable[[], World]) -> None:
        self._known: list[World] = []
        self._made = self._worlds(session, task, calls, read)

    def __iter__(self) -> Iterator[World]:
        yield from self._known
        for world in self._made:
            self._known.append(world)
            yield world

    @staticmethod
    def _worlds(session: "Session", task: Any, calls: Sequence[Call], read: Callable[[], World]) -> Iterator[World]:
        if all(call == calls[0] for call in calls):
            return
        for number, call in enumerate(calls):
            rest = [*calls[:number], *calls[number + 1 :]]
            for order in ([*rest, call], [call, *rest], [call, *reversed(rest)]):
                yield _in_fresh_world(session, task, order, None, read)


def _calls(args: tuple[Any, ...], kwargs: Mapping[str, Any], count: int) -> list[Call]:
    """Give each job its arguments; an iterator gives each its next value."""

    def value(given: Any) -> Any:
        if not isinstance(given, Iterator):
            return given
        try:
            return next(given)
        except StopIteration:
            raise UsageError(f"jobs.check_threads was given an iterator with fewer than {count} values") from None

    return [(tuple(map(value, args)), {name: value(given) for name, given in kwargs.items()}) for _ in range(count)]


def _in_fresh_world(session: "Session", task: Any, calls: Sequence[Call], seed: int | None, read: Callable[[], World]) -> World:
    """Run the jobs in a world that is read and put back afterwards: in threads, or without a seed one after the other."""
    with fresh(session):
        if seed is None:
            _one_by_one(session, task, calls)
        else:
            _at_once(session, task, calls, seed)
        return read()


def _one_by_one(session: "Session", task: Any, calls: Sequence[Call]) -> None:
    for args, kwargs in calls:
        session.queue.publish(task, args, kwargs)
    session.worker.settle(session.settle_limit)


def _at_once(session: "Session", task: Any, calls: Sequence[Call], seed: int) -> None:
    worker = session.worker
    for args, kwargs in calls:
        session.queue.publish(task, args, kwargs)
    worker.baton = baton = Baton(worker, seed)
    try:
        worker.drain(task.name, limit=len(calls))
        with session.queue.together(task):
            baton.run()
    finally:
        worker.baton = None
    worker.settle(session.settle_limit)
