"""Which schedules are tried, and in which order: each kind and each task in turn, so that a cut takes from all alike."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Protocol

from pytest_jobs.errors import UsageError
from pytest_jobs.schedules import AT_CALLS, AT_POINTS, Schedule, chained, parse, planned

__all__ = ["deeper", "in_turn", "recalled"]


class _Point(Protocol):
    """A place where a run can be interrupted.

    Attributes:
        number: Which point of the run.
        closed: Why no second delivery could run there, empty where one could.
        task: Whose point it is.
    """

    @property
    def number(self) -> int: ...

    @property
    def closed(self) -> str: ...

    @property
    def task(self) -> str: ...


class _Run(Protocol):
    """What a run makes possible.

    Attributes:
        deliveries: How many deliveries it had.
        points: One point of each class.
        outgoing: The numbers of its outgoing calls.
        callers: The task of each.
    """

    @property
    def deliveries(self) -> int: ...

    @property
    def points(self) -> Sequence[_Point]: ...

    @property
    def outgoing(self) -> Sequence[int]: ...

    @property
    def callers(self) -> Sequence[str]: ...


def in_turn(kinds: Iterable[str], run: _Run) -> list[Schedule]:
    """Return every schedule that a run makes possible, one of each kind and task after the other."""
    rows = zip_longest(*(group for kind in kinds for group in _groups(kind, run)))
    return [schedule for row in rows for schedule in row if schedule is not None]


def _groups(kind: str, run: _Run) -> Iterator[Sequence[Schedule]]:
    points = [(point.task, (point.number, bool(point.closed))) for point in run.points]
    calls = list(zip(run.callers or [""] * len(run.outgoing), run.outgoing, strict=True))
    if kind not in AT_POINTS | AT_CALLS:
        yield planned(kind, run.deliveries, (), ())
        return
    for task in dict.fromkeys(task for task, _ in (points if kind in AT_POINTS else calls)):
        own_points = [point for owner, point in points if owner == task]
        own_calls = [call for owner, call in calls if owner == task]
        yield planned(kind, run.deliveries, own_points, own_calls)


def deeper(schedule: Schedule, kinds: Iterable[str], again: _Run) -> list[Schedule]:
    """Chain a schedule with what can strike its recovery."""
    found = in_turn([kind for kind in kinds if kind in AT_POINTS | AT_CALLS], again)
    return [chained([*schedule.steps, step]) for step in found]


def recalled(ids: Iterable[str], kinds: Iterable[str]) -> list[Schedule]:
    """Return the schedules of these kinds that failed the last time; what cannot be read any more is forgotten."""
    found = []
    for each in ids:
        try:
            schedule = parse(each)
        except UsageError:
            continue
        if all(step.kind in kinds for step in schedule.steps):
            found.append(schedule)
    return found
