"""The kinds of schedules, their ids, and which of them a run makes possible."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pytest_jobs.errors import UsageError

__all__ = ["KINDS", "ONCE", "Schedule", "kinds", "parse", "planned"]

KINDS = ("twice", "late", "crash", "fail", "reply-lost", "overlap")


@dataclass(frozen=True, slots=True)
class Schedule:
    """What happens to the deliveries of one run; its text is its id, and the id replays it.

    Attributes:
        kind: `once` or one of `KINDS`.
        at: Which delivery or point it strikes, from 1; None when it strikes all.
    """

    kind: str
    at: int | None = None

    def __str__(self) -> str:
        return self.kind if self.at is None else f"{self.kind}@{self.at}"


ONCE = Schedule("once")
PLAIN = frozenset({"once", "twice"})


def parse(text: str) -> Schedule:
    """Return the schedule with this id.

    Raises:
        UsageError: When it is none.
    """
    match = re.fullmatch(r"([a-z-]+)(?:@([1-9]\d*))?", text.strip())
    if match is not None:
        kind, at = match[1], match[2]
        if (kind in PLAIN and at is None) or (kind in KINDS and kind not in PLAIN and at is not None):
            return Schedule(kind, int(at) if at is not None else None)
    raise UsageError(f"{text!r} is no schedule; allowed are once, twice, and {', '.join(f'{k}@N' for k in KINDS[1:])}")


def kinds(names: Iterable[str], where: str) -> tuple[str, ...]:
    """Check names of kinds; `all` stands for every kind.

    Raises:
        UsageError: When one is unknown.
    """
    wanted: dict[str, None] = {}
    for name in names:
        if not isinstance(name, str) or name not in {*KINDS, "all"}:
            raise UsageError(f"{where} was given the schedule kind {name!r}; allowed are {', '.join(KINDS)} and all")
        wanted.update(dict.fromkeys(KINDS if name == "all" else (name,)))
    return tuple(wanted)


def planned(kind: str, deliveries: int, points: Sequence[tuple[int, bool]], calls: int) -> Sequence[Schedule]:
    """Return the schedules of one kind that a run makes possible.

    Args:
        kind: One of `KINDS`.
        deliveries: How many deliveries the run had.
        points: The number of one point of each class, and whether a transaction with writes was open there.
        calls: How many outgoing calls it made.
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
        return [Schedule(kind, number) for number, is_open in points if not is_open]
    return [Schedule(kind, number) for number in range(1, calls + 1)]
