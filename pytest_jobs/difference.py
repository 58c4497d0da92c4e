"""Two values → the lines that show where they differ."""

from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from difflib import SequenceMatcher
from typing import Any

from pytest_jobs.canonical import Tokens, plain_fields, safe_repr
from pytest_jobs.instants import SPECIAL, epoch_micros, read_moment
from pytest_jobs.texts import ABSENT, WIDEST, brief, region, text_lines
from pytest_jobs.world import Evidence

__all__ = ["Difference", "capped", "fields_line", "row_like", "shifts", "unmatched"]

MOST_LINES = 15
LONG = 60
MOST_ALIGNED = 400
MOST_INSTANTS = 64


def fields_line(fields: Mapping[str, Any], width: int = WIDEST) -> str:
    """Show the fields of a row that is on one side only."""
    text = ""
    for name, value in fields.items():
        piece = f"{', ' if text else ''}{name}={brief(value, 20)}"
        if text and len(text) + len(piece) > width - 3:
            return f"{text}, …"
        text += piece
    return text


def row_like(value: Any) -> bool:
    """Tell whether a list's items are records, whose order no query promises."""
    return isinstance(value, list | tuple) and all(
        isinstance(each, Mapping | list | tuple) or (hasattr(each, "__dict__") and not isinstance(each, type))
        for each in value
    )


def capped(lines: Iterable[Evidence]) -> tuple[Evidence, ...]:
    """Keep the first lines, and say how many differences are not shown."""
    everything = list(lines)
    if len(everything) <= MOST_LINES:
        return tuple(everything)
    rest = everything[MOST_LINES - 1 :]
    count = sum(1 for line in rest if line.once or line.now)
    return (*everything[: MOST_LINES - 1], Evidence(f"… and {count:,} more differences", "", "", depth=1))


def unmatched(
    once: Sequence[Any], now: Sequence[Any], keys: tuple[Sequence[Hashable], Sequence[Hashable]]
) -> tuple[list[Any], list[Any]]:
    """Return what is left of two multisets when equal members are taken away."""
    waiting: defaultdict[Hashable, deque[Any]] = defaultdict(deque)
    for key, value in zip(keys[1], now, strict=True):
        waiting[key].append(value)
    gone = []
    for key, value in zip(keys[0], once, strict=True):
        if found := waiting.get(key):
            found.popleft()
        else:
            gone.append(value)
    come = []
    for key, value in zip(reversed(keys[1]), reversed(now), strict=True):
        if queue := waiting[key]:
            queue.pop()
            come.append(value)
    come.reverse()
    return gone, come


class Difference:
    """Owns the walk through two values of two worlds.

    Args:
        once: The canonical form of the undisturbed world's values.
        now: The same of the other world's.
        shifts: By how many microseconds the clock of one run may be ahead of the other's at the same step.
    """

    def __init__(self, once: Tokens, now: Tokens, shifts: frozenset[int] = frozenset()) -> None:
        self.once, self.now, self.shifts = once, now, shifts

    def same(self, once: Any, now: Any) -> bool:
        """Tell whether two values are no different."""
        if once is ABSENT or now is ABSENT:
            return once is now
        return self.once.of(once) == self.now.of(now) or self._shifted(once, now)

    def anonymous(self, value: Any) -> Hashable:
        """Return a value's canonical form with every UUID alike."""
        return Tokens(self.once.instants, lambda _: "", self.once.homes).of(value)

    def lines(self, label: str, once: Any, now: Any, depth: int) -> Iterator[Evidence]:
        """Show where two values differ, nothing when they do not."""
        if self.same(once, now):
            return
        if once is ABSENT:
            yield Evidence(label, "", brief(now), "added", depth)
        elif now is ABSENT:
            yield Evidence(label, brief(once), "", "removed", depth)
        elif _texts(once, now):
            yield from text_lines(label, once, now, depth)
        elif depth < 6 and (parts := list(self.parts(once, now))):
            whole = (safe_repr(once), safe_repr(now)) if depth and _small(once) and _small(now) else ()
            if whole and max(map(len, whole)) <= WIDEST:
                yield Evidence(label, *whole, "", depth)
            elif found := [line for part in parts for line in self.lines(*part, depth + 1)]:
                if label and depth:
                    yield Evidence(label, "", "", "", depth)
                yield from (found if label else _raised(found))
        elif not self._walked(once, now):
            yield Evidence(label, *_pair(once, now), "", depth)

    def parts(self, once: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
        """Take two values apart alike: label, part of the one, part of the other, for those that differ."""
        if isinstance(once, Mapping) and isinstance(now, Mapping):
            yield from self._keyed(dict(once), dict(now))
        elif isinstance(once, AbstractSet) and isinstance(now, AbstractSet):
            yield from self._bag(list(once), list(now))
        elif isinstance(once, list | tuple) and isinstance(now, list | tuple):
            yield from self._bag(once, now) if row_like(once) and row_like(now) else self._listed(once, now)
        elif type(once).__qualname__ == type(now).__qualname__:
            yield from self._keyed(dict(plain_fields(once) or {}), dict(plain_fields(now) or {}))

    def _walked(self, once: Any, now: Any) -> bool:
        both: list[Any] = [Mapping, AbstractSet, (list, tuple)]
        alike = any(isinstance(once, kind) and isinstance(now, kind) for kind in both)
        return alike and not list(self.parts(once, now))

    def _keyed(self, once: dict[Any, Any], now: dict[Any, Any]) -> Iterator[tuple[str, Any, Any]]:
        mine = {self.once.of(key): key for key in once}
        theirs = {self.now.of(key): key for key in now}
        if len(mine) < len(once) or len(theirs) < len(now):
            yield from self._bag(list(once.items()), list(now.items()))
            return
        for token, key in mine.items():
            other = now[theirs[token]] if token in theirs else ABSENT
            if not self.same(once[key], other):
                yield _key(key), once[key], other
        for token, key in theirs.items():
            if token not in mine:
                yield _key(key), ABSENT, now[key]

    def _bag(self, once: Sequence[Any], now: Sequence[Any]) -> Iterator[tuple[str, Any, Any]]:
        gone, come = unmatched(once, now, ([self.once.of(each) for each in once], [self.now.of(each) for each in now]))
        if len(gone) * len(come) <= MOST_ALIGNED:
            for each in list(gone):
                twin = next((i for i, other in enumerate(come) if self._equal(each, other)), None)
                if twin is not None:
                    gone.remove(each)
                    del come[twin]
        if len(gone) == len(come):
            yield from (("item", old, new) for old, new in zip(gone, come, strict=True))
            return
        yield from (("item", each, ABSENT) for each in gone)
        yield from (("item", ABSENT, each) for each in come)

    def _equal(self, once: Any, now: Any) -> bool:
        return self.same(once, now) or (_containers(once, now) and not list(self.lines("", once, now, 1)))

    def _listed(self, once: Sequence[Any], now: Sequence[Any]) -> Iterator[tuple[str, Any, Any]]:
        mine, theirs = [self.once.of(each) for each in once], [self.now.of(each) for each in now]
        start = 0
        while start < min(len(mine), len(theirs)) and mine[start] == theirs[start]:
            start += 1
        end = 0
        while end < min(len(mine), len(theirs)) - start and mine[-1 - end] == theirs[-1 - end]:
            end += 1
        left, right = mine[start : len(mine) - end], theirs[start : len(theirs) - end]
        if max(len(left), len(right)) <= MOST_ALIGNED:
            steps = SequenceMatcher(None, left, right, autojunk=False).get_opcodes()
        else:
            steps = [("replace", 0, len(left), 0, len(right))]
        for kind, a, b, c, d in steps:
            if kind == "equal":
                continue
            for step in range(max(b - a, d - c)):
                old = once[start + a + step] if a + step < b else ABSENT
                new = now[start + c + step] if c + step < d else ABSENT
                if not self.same(old, new):
                    yield f"[{start + (a if new is ABSENT else c) + step}]", old, new

    def _shifted(self, once: Any, now: Any) -> bool:
        if not self.shifts or type(once) is not type(now):
            return False
        left, right = _micros(once), _micros(now)
        return left is not None and right is not None and right - left in self.shifts


def shifts(once: frozenset[float], now: frozenset[float]) -> frozenset[int]:
    """Return by how much the clocks of two runs may be apart, nothing when they stood at too many instants."""
    if max(len(once), len(now)) > MOST_INSTANTS:
        return frozenset()
    return frozenset(round(new * 1e6) - round(old * 1e6) for old in once for new in now) - {0}


def _micros(value: Any) -> int | None:
    """Return the instant that a value looks like, in microseconds."""
    if isinstance(value, datetime):
        return epoch_micros(value)[0]
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, str):
        match = SPECIAL.fullmatch(value)
        moment = read_moment(match) if match is not None and match["h"] is not None else None
        return epoch_micros(moment)[0] if moment is not None else None
    if isinstance(value, int | float) and 10**8 <= value < 10**13:
        return round(value * (1e6 if value < 10**11 else 1e3))
    return None


def _texts(once: Any, now: Any) -> bool:
    return (isinstance(once, str) and isinstance(now, str)) or (isinstance(once, bytes) and isinstance(now, bytes))


def _containers(once: Any, now: Any) -> bool:
    return all(isinstance(each, Mapping | list | tuple) for each in (once, now))


def _small(value: Any) -> bool:
    return not isinstance(value, list | tuple | AbstractSet | Mapping) or len(value) <= 4


def _key(key: Any) -> str:
    return key if isinstance(key, str) and key and len(key) <= LONG else brief(key)


def _raised(lines: Iterable[Evidence]) -> Iterator[Evidence]:
    for line in lines:
        yield Evidence(line.label, line.once, line.now, line.note, line.depth - 1)


def _pair(once: Any, now: Any) -> tuple[str, str]:
    left, right = brief(once), brief(now)
    if left != right:
        return left, right
    if type(once) is not type(now):
        return f"{left} ({type(once).__name__})", f"{right} ({type(now).__name__})"
    return region(safe_repr(once), safe_repr(now))
