"""Schedules, their ids, and which of them a run makes possible."""

import builtins
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

from pytest_jobs.errors import UsageError
from pytest_jobs.kinds import KINDS

__all__ = ["AT_CALLS", "AT_POINTS", "ONCE", "Schedule", "chained", "error_named", "parse", "planned"]

@dataclass(frozen=True, slots=True, repr=False)
class Schedule:
    """What happens to the deliveries of one run; its text is its id, and the id replays it.

    Attributes:
        kind: `once` or one of `KINDS`.
        at: Which delivery or point it strikes, from 1; None when it strikes all.
        then: What strikes after it: `crash@3+crash@9`.
        error: The dotted name of what an outgoing call raises; empty for its library's own transient error.
        on: Whether the call goes on failing in every retry of the job: `fail@3-`.
        apart: Whether an overlapping delivery has a thread of its own, because it waits for a lock of the first one.
    """

    kind: str
    at: int | None = None
    then: "Schedule | None" = None
    error: str = ""
    on: bool = False
    apart: bool = field(default=False, compare=False)

    @property
    def steps(self) -> tuple["Schedule", ...]:
        """Each of its faults by itself, in order."""
        return (replace(self, then=None), *(self.then.steps if self.then is not None else ()))

    @property
    def alongside(self) -> "Schedule":
        """The same, its overlapping delivery in a thread of its own."""
        return replace(self, apart=True)

    def has(self, *kinds: str) -> bool:
        """Tell whether a fault of any of these kinds is in it."""
        return any(step.kind in kinds for step in self.steps)

    def __str__(self) -> str:
        own = self.kind if self.at is None else f"{self.kind}@{self.at}{'-' if self.on else ''}"
        own = f"{own}:{self.error}" if self.error else own
        return own if self.then is None else f"{own}+{self.then}"

    def __repr__(self) -> str:
        return repr(str(self))

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print as the id in a falsifying example of Hypothesis, which would show the fields."""
        printer.text(repr(self))


ONCE = Schedule("once")
PLAIN = frozenset({"once", "twice"})
AT_POINTS = frozenset({"crash", "overlap"})
AT_CALLS = frozenset({"fail", "reply-lost"})


def parse(text: str) -> Schedule:
    """Return the schedule with this id.

    Raises:
        UsageError: When it is none.
    """
    steps = [_step(part) for part in text.split("+")] if isinstance(text, str) else [None]
    if None in steps or (len(steps) > 1 and any(step == ONCE for step in steps)):
        raise UsageError(
            f"{text!r} is no schedule; allowed are once, twice, {', '.join(f'{kind}@N' for kind in KINDS[1:])}, "
            "and several joined by +"
        )
    return chained([step for step in steps if step is not None])


def _step(text: str) -> Schedule | None:
    match = re.fullmatch(r"([a-z-]+)(?:@([1-9]\d*)(-)?(?::([\w.]+))?)?", text.strip())
    if match is None:
        return None
    kind, at, on, error = match.groups()
    if on and kind != "fail":
        return None
    if error is not None:
        error_named(error)
        return Schedule(kind, int(at), None, error, bool(on)) if kind in AT_CALLS else None
    if kind in PLAIN:
        return Schedule(kind) if at is None else None
    return Schedule(kind, int(at), on=bool(on)) if kind in KINDS and at is not None else None


def chained(steps: Sequence[Schedule]) -> Schedule:
    """Return the schedule of several faults, one after the other."""
    whole: Schedule | None = None
    for step in reversed(steps):
        whole = replace(step, then=whole)
    return whole or ONCE


def error_named(name: str) -> type[BaseException]:
    """Return the exception class with this dotted name; one without dots is Python's own.

    Raises:
        UsageError: When there is none.
    """
    module, _, own = name.rpartition(".")
    try:
        found = getattr(import_module(module) if module else builtins, own)
    except (ImportError, AttributeError, ValueError):
        found = None
    if not (isinstance(found, type) and issubclass(found, BaseException)):
        raise UsageError(f"a schedule names {name!r}, which is no exception that can be imported")
    return found


def planned(kind: str, deliveries: int, points: Sequence[tuple[int, bool]], calls: Sequence[int]) -> Sequence[Schedule]:
    """Return the schedules of one kind that a run makes possible.

    Args:
        kind: One of `KINDS`.
        deliveries: How many deliveries the run had.
        points: The number of one point of each class, and whether no second delivery could run there.
        calls: The numbers of its outgoing calls.
    """
    if not deliveries:
        return ()
    if kind == "twice":
        return (Schedule("twice"),)
    if kind == "late":
        return [Schedule(kind, number) for number in range(1, deliveries + 1)]
    if kind == "crash":
        return [Schedule(kind, number) for number, _ in points]
    if kind == "overlap":
        return [Schedule(kind, number) for number, is_closed in points if not is_closed]
    return [Schedule(kind, number) for number in calls]
