"""Which made-up id of one run is which of another: surrogate keys and UUIDs."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from pytest_jobs.canonical import UUID_TEXT, Found, Tokens, uuids_in
from pytest_jobs.instants import Instants
from pytest_jobs.world import Rows, World

__all__ = ["Labels", "made_keys", "pair_names"]

Name = tuple[Hashable, ...]
Colours = Mapping[Name, int]
ROUNDS = 8
MOST_COMPARED = 10_000


@dataclass(frozen=True, slots=True)
class Labels:
    """What the ids of one world are called in both.

    Attributes:
        side: Which world it is; an id that the other world lacks is called by it.
        names: Each id's common name.
    """

    side: str
    names: Mapping[Name, Hashable]

    def uuid(self, digits: str) -> Hashable:
        """Return what a UUID is called."""
        name = ("uuid", digits)
        return self.names.get(name) or (self.side, digits)

    def key(self, table: str, values: tuple[Any, ...]) -> Hashable:
        """Return what a row of a table with made keys is called."""
        name = ("key", table, values)
        return self.names.get(name) or (self.side, values)

    def reference(self, rows: Rows, column: str, value: Any, of: Callable[[Any], Hashable]) -> Hashable:
        """Return the canonical form of a foreign key: what the row is called that it points to, or where it stands."""
        table, place = rows.references[column], _place(rows, column, value)
        return self.names.get(("key", table, (value,))) or (of(value) if place is None else ("place", table, place))


@dataclass(frozen=True, slots=True)
class _Fact:
    """Owns one thing a world says, with the ids in it taken out.

    Attributes:
        subject: What it is about.
        shape: The rest of it: a row's columns, an item.
        names: The ids, each with the place where it stands.
        home: The id that is this row's own key.
    """

    subject: str
    shape: Hashable
    names: tuple[tuple[Hashable, Name], ...]
    home: Name | None = None


@dataclass(slots=True)
class _Side:
    """Owns what is known of the ids of one world."""

    facts: list[_Fact]
    hashes: list[int] = field(default_factory=list)
    incident: dict[Name, list[tuple[int, Hashable]]] = field(default_factory=dict)
    homes: dict[Name, int] = field(default_factory=dict)
    labels: dict[Name, Hashable] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.hashes = [hash((fact.subject, fact.shape)) for fact in self.facts]
        for number, fact in enumerate(self.facts):
            for place, name in fact.names:
                self.incident.setdefault(name, []).append((number, place))
            if fact.home is not None:
                self.homes.setdefault(fact.home, number)

    def open(self) -> list[Name]:
        """List the ids that are not paired yet, by first appearance."""
        return [name for name in self.incident if name not in self.labels]


def made_keys(rows: Rows) -> bool:
    """Tell whether a table's key is made by the database as a number, and so a name of its own."""
    if not (rows.surrogate and rows.key):
        return False
    first = rows.rows[0].get(rows.key[0]) if rows.rows else None
    text = str(first) if isinstance(first, str | UUID) else ""
    return not (text and UUID_TEXT.fullmatch(text))


def _place(rows: Rows, column: str, value: Any) -> int | None:
    return rows.places[column].get(value) if column in rows.places and isinstance(value, int) else None


def pair_names(once: World, now: World, instants: Instants) -> tuple[Labels, Labels]:
    """Find which ids of two worlds mean the same: by what they stand for, then by where they first appear."""
    made = {
        table
        for world in (once, now)
        for table, rows in world.state.items()
        if isinstance(rows, Rows) and rows.rows and made_keys(rows)
    }
    pair = _Pairing(_Side(list(_facts(once, made, instants))), _Side(list(_facts(now, made, instants))))
    pair.run()
    return Labels("once", pair.left.labels), Labels("now", pair.right.labels)


def _facts(world: World, made: set[str], instants: Instants) -> Iterator[_Fact]:
    shape = Tokens(instants, lambda _: "?", (world.home,)).of

    def fact(subject: str, value: Any) -> Iterator[_Fact]:
        names = tuple((place, ("uuid", digits)) for place, digits in uuids_in(value, shape))
        if names:
            yield _Fact(str(shape(subject)), shape(value), names)

    for subject, value in world.state.items():
        if isinstance(value, Rows):
            for row in value.rows:
                if (found := _row(subject, value, row, made, shape)).names:
                    yield found
        elif isinstance(value, list | tuple):
            for item in value:
                yield from fact(subject, (subject, item))
        elif isinstance(value, Mapping):
            for pair in value.items():
                yield from fact(subject, (subject, pair))
        else:
            yield from fact(subject, (subject, value))
    for outcome in world.outcomes:
        for kind, value in outcome.attempts:
            yield from fact(f"result of {outcome.task}", (kind, value))
    for effect in dict.fromkeys((each.kind, each.target) for each in world.effects):
        yield from fact("effect", effect)
    for sentence in world.left:
        yield from fact("left", sentence)


def _row(table: str, rows: Rows, row: Mapping[str, Any], made: set[str], shape: Callable[[Any], Hashable]) -> _Fact:
    key = tuple(row.get(column) for column in rows.key)
    names: list[tuple[Hashable, Name]] = []
    home: Name | None = None
    if table in made:
        home = ("key", table, key)
        names.append(("#", home))
    content: list[tuple[str, Hashable]] = []
    for column, value in row.items():
        target = rows.references.get(column)
        if target in made and value is not None:
            names.append((column, ("key", target, (value,))))
            continue
        if table in made and column in rows.key:
            continue
        content.append((column, shape(value) if _place(rows, column, value) is None else ("place", _place(rows, column, value))))
        found: list[Found] = list(uuids_in(value, shape, (column,)))
        names += ((place, ("uuid", digits)) for place, digits in found)
        if home is None and rows.key == (column,) and found:
            home = ("uuid", found[0][1])
    return _Fact(table, frozenset(content), tuple(names), home)


class _Pairing:
    """Owns the search: from the finest likeness of two ids to the coarsest."""

    def __init__(self, left: _Side, right: _Side) -> None:
        self.left, self.right = left, right

    def run(self) -> None:
        """Pair as many ids as possible."""
        for name in self.left.incident:
            if name[0] == "uuid" and name in self.right.incident:
                self.left.labels[name] = self.right.labels[name] = name
        if Counter(self.left.facts) == Counter(self.right.facts):
            for name in self.left.open():
                self._bind(name, name)
        if not self.left.open() or not self.right.open():
            return
        levels = self._levels()
        for left, right in reversed(levels):
            self._pair(left, right)
        for name in self.left.open():
            if name in self.right.homes and name not in self.right.labels and name in self.left.homes:
                self._bind(name, name)
        self._pair_alike()
        self._pair(*(self._whereabouts(side) for side in (self.left, self.right)))
        self._pair(*({n: hash(n[:2]) for n in side.homes if n[0] == "key"} for side in (self.left, self.right)))

    def _bind(self, left: Name, right: Name) -> None:
        self.left.labels[left] = self.right.labels[right] = ("id", len(self.left.labels))

    def _levels(self) -> list[tuple[Colours, Colours]]:
        now = [
            {name: hash(side.labels.get(name) or name[: 2 if name[0] == "key" else 1]) for name in side.incident}
            for side in (self.left, self.right)
        ]
        levels: list[tuple[Colours, Colours]] = []
        for outward, most in ((True, 3), (False, ROUNDS)):
            told_apart = 0
            for _ in range(most):
                now = [_refine(side, now[i], outward) for i, side in enumerate((self.left, self.right))]
                levels.append((now[0], now[1]))
                count = len(set(now[0].values())) + len(set(now[1].values()))
                if count == told_apart:
                    break
                told_apart = count
        return levels

    def _pair(self, left: Colours, right: Colours) -> None:
        waiting: defaultdict[int, list[Name]] = defaultdict(list)
        for name in reversed(self.right.open()):
            if name in right:
                waiting[right[name]].append(name)
        for name in self.left.open():
            others = waiting.get(left[name], []) if name in left else []
            while others and others[-1] in self.right.labels:
                others.pop()
            if others and name not in self.left.labels:
                self._follow(name, others.pop(), left, right)

    def _follow(self, left: Name, right: Name, colours: Colours, others: Colours) -> None:
        # ties are broken once; what hangs on the broken tie must be paired along with it
        self._bind(left, right)
        trail = [(left, right)]
        while trail:
            left, right = trail.pop()
            waiting: defaultdict[Hashable, list[int]] = defaultdict(list)
            for number, place in reversed(self.right.incident[right]):
                waiting[_likeness(self.right, number, place, others)].append(number)
            keys = [
                (number, _likeness(self.left, number, place, colours)) for number, place in self.left.incident[left]
            ]
            for number, key in keys:
                if not (found := waiting.get(key)):
                    continue
                theirs = _ordered(self.right.facts[found.pop()], others)
                for (_, a), (_, b) in zip(_ordered(self.left.facts[number], colours), theirs, strict=False):
                    known = a in self.left.labels or b in self.right.labels
                    if not known and colours.get(a, 0) == others.get(b, 1):
                        self._bind(a, b)
                        trail.append((a, b))

    def _pair_alike(self) -> None:
        tables: defaultdict[str, tuple[list[Name], list[Name]]] = defaultdict(lambda: ([], []))
        for index, side in enumerate((self.left, self.right)):
            for name, number in side.homes.items():
                if name not in side.labels:
                    tables[side.facts[number].subject][index].append(name)
        for mine, theirs in tables.values():
            if len(mine) * len(theirs) > MOST_COMPARED:
                continue
            scores = sorted(
                ((-self._likeness(a, b), i, j) for i, a in enumerate(mine) for j, b in enumerate(theirs)),
            )
            for score, i, j in scores:
                if score and mine[i] not in self.left.labels and theirs[j] not in self.right.labels:
                    self._bind(mine[i], theirs[j])

    def _likeness(self, left: Name, right: Name) -> int:
        mine = self.left.facts[self.left.homes[left]].shape
        theirs = self.right.facts[self.right.homes[right]].shape
        return len(mine & theirs) if isinstance(mine, frozenset) and isinstance(theirs, frozenset) else 0

    @staticmethod
    def _whereabouts(side: _Side) -> Colours:
        places = {name: {(side.facts[n].subject, place) for n, place in spots} for name, spots in side.incident.items()}
        return {name: hash(frozenset(each)) for name, each in places.items() if name[0] == "uuid"}


def _refine(side: _Side, colours: Colours, outward: bool) -> dict[Name, int]:
    signs = [
        hash((side.hashes[number], tuple(sorted((hash(place), colours[name]) for place, name in fact.names))))
        for number, fact in enumerate(side.facts)
    ]
    found: dict[Name, int] = {}
    for name, spots in side.incident.items():
        if name in side.labels:
            found[name] = colours[name]
        elif outward and name in side.homes:
            found[name] = hash(("home", name[0], signs[side.homes[name]]))
        else:
            seen = Counter((signs[number], hash(place)) for number, place in spots)
            found[name] = hash((colours[name], frozenset(seen.items() if not outward else seen)))
    return found


def _ordered(fact: _Fact, colours: Colours) -> list[tuple[Hashable, Name]]:
    return sorted(fact.names, key=lambda each: (hash(each[0]), colours.get(each[1], 0)))


def _likeness(side: _Side, number: int, place: Hashable, colours: Colours) -> Hashable:
    fact = side.facts[number]
    known = tuple((hash(where), colours.get(name, 0), side.labels.get(name)) for where, name in _ordered(fact, colours))
    return (side.hashes[number], hash(place), known)
