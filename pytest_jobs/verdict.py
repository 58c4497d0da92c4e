"""Two worlds → findings: what the schedule changed."""

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pytest_jobs.between import stuck
from pytest_jobs.canonical import Tokens
from pytest_jobs.difference import Difference, capped, shifts, unmatched
from pytest_jobs.effects import compare_effects, compare_unrun
from pytest_jobs.ignore import Ignore
from pytest_jobs.instants import Instants
from pytest_jobs.naming import pair_names
from pytest_jobs.outcomes import compare_outcomes, tells_loss
from pytest_jobs.retries import compare_retries
from pytest_jobs.tables import NO_ROWS, compare_rows, counted
from pytest_jobs.texts import ABSENT, brief
from pytest_jobs.world import Evidence, Finding, Lifetime, Rows, Unreadable, World

__all__ = ["Comparison", "compare"]

WORST_FIRST = ("lost", "other-error", "lock", "effect", "stuck", "state", "outcome", "endless", "no-delay", "left")
SHOWN_BY_STATE = frozenset({"sql", "redis", "file", "object", "mock"})
EXPIRES = " expires"
SETS_LOCK = re.compile(r"\bSETNX\b|\bSET\b.*\bNX\b", re.DOTALL)
OWN_PROBE = frozenset({"redis", "file", "object", "mail"})


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs between two worlds.

    Attributes:
        findings: The differences, worst first.
        ignored: The patterns that hid a difference.
        matched: The patterns that matched anything, whether it differed or not.
        unreadable: What could not be looked at, and so was not compared.
    """

    findings: tuple[Finding, ...]
    ignored: tuple[str, ...] = ()
    matched: frozenset[str] = frozenset()
    unreadable: tuple[Unreadable, ...] = ()


def compare(once: World, now: World, ignore: Ignore) -> Comparison:
    """Find every difference that matters.

    Args:
        once: The world after the undisturbed run.
        now: The world after the schedule.
        ignore: Which differences are fine.
    """
    return _Comparing(once, now, ignore).comparison()


class _Comparing:
    """Owns one comparison."""

    def __init__(self, once: World, now: World, ignore: Ignore) -> None:
        self.ignore = ignore
        self.matched: set[str] = set()
        self.hid: set[str] = set()
        self.columns: dict[tuple[str, str], str | None] = {}
        self.full = (once, now)
        self.once, self.now = (replace(world, state=self._kept(world.state)) for world in (once, now))
        instants = Instants(once.instants | now.instants, (once.real, now.real))
        self.labels = pair_names(self.once, self.now, instants)
        tokens = [Tokens(instants, labels.uuid, (once.home, now.home)) for labels in self.labels]
        self.walk = Difference(tokens[0], tokens[1], shifts(once.instants, now.instants))

    def comparison(self) -> Comparison:
        """Compare everything."""
        state = list(self._states())
        changed = {finding.subject.partition(".")[0] for finding in state} | {finding.subject for finding in state}
        found = [*state, *self._outcomes(), *self._retries(), *self._left()]
        found += compare_unrun(self.once, self.now, self._pattern, self.hid.add)
        found += (
            finding
            for kind, finding in compare_effects(self.once, self.now, self.walk, self._pattern, self.hid.add)
            if kind not in SHOWN_BY_STATE or not _told(finding, changed)
        )
        found.sort(key=lambda finding: WORST_FIRST.index(finding.rule))
        self._what_was_hidden()
        return Comparison(
            tuple(found),
            tuple(pattern for pattern in self.ignore.patterns if pattern in self.hid),
            frozenset(self.matched),
            tuple(dict.fromkeys(self.full[0].unreadable + self.full[1].unreadable)),
        )

    def _pattern(self, subject: str) -> str | None:
        found = self.ignore.all(subject)
        self.matched |= found
        return self.ignore.find(subject) if found else None

    def _column(self, table: str, column: str) -> str | None:
        place = (table, column)
        if place not in self.columns:
            self.columns[place] = self._pattern(f"{table}.{column}")
        return self.columns[place]

    def _kept(self, state: Mapping[str, Any]) -> dict[str, Any]:
        if not self.ignore.patterns:
            return dict(state)
        return {subject: self._cut(subject, value) for subject, value in state.items() if not self._pattern(subject)}

    def _cut(self, subject: str, value: Any) -> Any:
        if isinstance(value, Rows):
            names = {name for row in value.rows for name in row if self._column(subject, name)}
            return replace(value, rows=tuple(_without(row, names) for row in value.rows)) if names else value
        if isinstance(value, Mapping):
            names = {key for key in value if isinstance(key, str) and self._column(subject, key)}
            return _without(value, names) if names else value
        if isinstance(value, list | tuple) and any(isinstance(each, Mapping) for each in value):
            return [self._cut(subject, each) if isinstance(each, Mapping) else each for each in value]
        return value

    def _states(self) -> Iterator[Finding]:
        for subject, mine, theirs in self._subjects(self.once.state, self.now.state):
            old, new = self.once.state.get(mine, ABSENT), self.now.state.get(theirs, ABSENT)
            if (old is ABSENT and self._unseen(subject, new, 0)) or (new is ABSENT and self._unseen(subject, old, 1)):
                continue
            if new is ABSENT and self._expired(mine):
                continue
            if isinstance(old, Lifetime) | isinstance(new, Lifetime) and not (
                mine.removesuffix(EXPIRES) in self.once.state and theirs.removesuffix(EXPIRES) in self.now.state
            ):
                continue
            if isinstance(old, Rows) or isinstance(new, Rows):
                old, new = (each if isinstance(each, Rows) else NO_ROWS for each in (old, new))
                found = compare_rows(subject, old, new, self.walk, self.labels)
            else:
                found = self._value(subject, old, new)
            if found is not None:
                is_lock = old is ABSENT and subject.startswith("redis:") and self._locks(subject)
                yield replace(found, rule="lock", once="", now="lock left behind") if is_lock else stuck(found, self.once.effects, self.now.effects)

    def _expired(self, subject: str) -> bool:
        """Tell whether something of the undisturbed world must be gone by now, because the schedule took longer."""
        lifetime = self.once.state.get(f"{subject.removesuffix(EXPIRES)}{EXPIRES}")
        if not isinstance(lifetime, Lifetime) or not self.once.instants or not self.now.instants:
            return False
        return max(self.once.instants) + lifetime.left <= max(self.now.instants)

    def _locks(self, subject: str) -> bool:
        """Tell whether a key that is left was set only where there was none, as locks are."""
        setting = [effect for effect in self.now.effects if effect.target == subject]
        return any(SETS_LOCK.search(f"{effect.label} {effect.detail}") for effect in setting)

    def _subjects(self, once: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, str, str]]:
        """Pair the subjects of both worlds: what to call them, then their names on either side."""
        alike = {self.walk.now.of(subject): subject for subject in now if subject not in once}
        pairs = []
        for subject in once:
            twin = subject if subject in now else alike.pop(self.walk.once.of(subject), subject)
            pairs.append((twin, subject, twin))
        paired = {twin for _, _, twin in pairs}
        return [*pairs, *((subject, subject, subject) for subject in now if subject not in paired)]

    def _unseen(self, subject: str, value: Any, side: int) -> bool:
        owner = subject.partition(":")[0]
        special = owner in OWN_PROBE and not isinstance(value, Rows)
        probes = [part.probe for part in self.full[side].unreadable]
        return any(probe.startswith(owner) if special else probe not in OWN_PROBE for probe in probes)

    def _value(self, subject: str, old: Any, new: Any) -> Finding | None:
        if _nothing(old) and _nothing(new):
            return None
        lines = list(self.walk.lines(subject, old, new, 0))
        if not lines:
            return None
        return _value_finding(subject, old, new, lines)

    def _outcomes(self) -> Iterator[Finding]:
        return compare_outcomes(self.once.outcomes, self.now, self.walk, self._hidden)

    def _retries(self) -> Iterator[Finding]:
        return compare_retries(self.once.outcomes, self.now.outcomes, self._hidden)

    def _hidden(self, word: str, subject: str | None = None) -> bool:
        pattern = self._pattern(word) or (self._pattern(subject) if subject is not None else None)
        if pattern is None:
            return False
        self.hid.add(pattern)
        return True

    def _left(self) -> Iterator[Finding]:
        lost = any(outcome.state == "lost" for outcome in self.now.outcomes)
        if self.now.kept or any(outcome.state == "lost" for outcome in self.once.outcomes):
            self._hidden("lost")
        mine, theirs = ([tokens.of(each) for each in world.left] for tokens, world in self._sides())
        for sentence in unmatched(self.once.left, self.now.left, (mine, theirs))[1]:
            if lost and tells_loss(sentence):
                continue
            words = [word for word in sentence.split() if self._pattern(word.rstrip(":,."))]
            if words:
                self.hid.update(self.ignore.all(words[0].rstrip(":,.")))
                continue
            yield Finding("left", "left over", "", sentence, (Evidence("left over", "", brief(sentence)),))

    def _sides(self) -> tuple[tuple[Tokens, World], tuple[Tokens, World]]:
        return (self.walk.once, self.once), (self.walk.now, self.now)

    def _what_was_hidden(self) -> None:
        once, now = (world.state for world in self.full)
        for subject, mine, theirs in self._subjects(once, now):
            old, new = once.get(mine), now.get(theirs)
            pattern = self.ignore.find(subject)
            if pattern is not None:
                if self._bag(old, False) != self._bag(new, True):
                    self.hid.add(pattern)
                continue
            for (table, column), each in self.columns.items():
                if table == subject and each is not None and each not in self.hid:
                    left, right = _column_of(old, column), _column_of(new, column)
                    if self._bag(left, False) != self._bag(right, True):
                        self.hid.add(each)

    def _bag(self, value: Any, of_now: bool) -> Counter[Hashable]:
        tokens = self.walk.now if of_now else self.walk.once
        rows: Iterable[Any] = value.rows if isinstance(value, Rows) else value if isinstance(value, list) else [value]
        return Counter(tokens.of(each) for each in rows)


def _without(row: Mapping[Any, Any], names: set[Any]) -> dict[Any, Any]:
    return {name: value for name, value in row.items() if name not in names}


def _column_of(value: Any, column: str) -> list[Any]:
    rows = value.rows if isinstance(value, Rows) else value if isinstance(value, list | tuple) else [value]
    return [row.get(column) for row in rows if isinstance(row, Mapping)]


def _nothing(value: Any) -> bool:
    return value is ABSENT or value is None or (isinstance(value, list | tuple | set | dict) and not value)


def _told(finding: Finding, changed: set[str]) -> bool:
    return any(subject in changed for subject in (finding.subject, finding.subject.partition(":")[2]))


def _value_finding(subject: str, old: Any, new: Any, lines: list[Evidence]) -> Finding:
    kinds = [type(each) for each in (old, new) if each is not ABSENT]
    sized = all(issubclass(kind, list | tuple | set | frozenset | Mapping) for kind in kinds)
    if sized:
        noun = "entry" if issubclass(kinds[0], Mapping) else "item"
        sizes = [0 if each is ABSENT else len(each) for each in (old, new)]
        once, now = (counted(size, noun) for size in sizes)
        lines.insert(0, Evidence(subject, once, now)) if lines[0].label != subject else None
        if once == now:
            leaves = [line for line in lines if (line.once or line.now) and line.depth]
            once, now = "", f"{counted(sum(1 for line in lines if line.depth == 1), noun)} changed"
            if len(leaves) == 1 and leaves[0].once and leaves[0].now and leaves[0].depth == 1:
                once, now = leaves[0].once, leaves[0].now
                subject = f"{subject}{'' if leaves[0].label.startswith('[') else '.'}{leaves[0].label}"
        return Finding("state", subject, once, now, capped(lines))
    head = next((line for line in lines if line.depth == 0), None)
    once, now = (head.once, head.now) if head and (head.once or head.now) else ("", "changed")
    if head is None:
        lines.insert(0, Evidence(subject, brief(old), brief(new)))
    absent = {"once": once or "absent", "now": now or "absent"}
    return Finding("state", subject, absent["once"] if old is ABSENT else once, absent["now"], capped(lines))
