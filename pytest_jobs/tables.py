"""Two readings of one table → what differs between them."""

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any

from pytest_jobs.difference import Difference, capped, fields_line, unmatched
from pytest_jobs.naming import Labels, made_keys
from pytest_jobs.texts import ABSENT, brief
from pytest_jobs.world import Evidence, Finding, Rows

__all__ = ["NO_ROWS", "compare_rows", "counted"]

NO_ROWS = Rows((), ())
Row = Mapping[str, Any]


def counted(count: int, noun: str) -> str:
    """Return `1 row`, `2 rows`."""
    plural = f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def compare_rows(table: str, once: Rows, now: Rows, walk: Difference, labels: tuple[Labels, Labels]) -> Finding | None:
    """Compare a table by primary key where it has one, by content otherwise; None when nothing differs."""
    return _Table(table, once, now, walk, labels).finding()


class _Table:
    """Owns the comparison of one table."""

    def __init__(self, table: str, once: Rows, now: Rows, walk: Difference, labels: tuple[Labels, Labels]) -> None:
        self.table, self.walk = table, walk
        self.rows = (once, now)
        self.made = any(made_keys(each) for each in self.rows)
        self.tokens = tuple(
            [self._token(row, each, label, tokens.of) for row in each.rows]
            for each, label, tokens in zip(self.rows, labels, (walk.once, walk.now), strict=True)
        )
        self.keys = tuple(
            [self._key(row, each, label, tokens.of) for row in each.rows]
            for each, label, tokens in zip(self.rows, labels, (walk.once, walk.now), strict=True)
        )

    def finding(self) -> Finding | None:
        """Return what differs."""
        once, now = self.rows
        keyed = bool(once.key or now.key) and all(len(set(keys)) == len(keys) for keys in self.keys)
        gone, come, changed = self._by_key() if keyed else self._by_content()
        if not (gone or come or changed):
            return None
        counts = counted(len(once.rows), "row"), counted(len(now.rows), "row")
        lines = [Evidence(self.table, *counts)]
        for i, j, names in changed:
            lines += self._changed(i, j, names)
        lines += [Evidence(self._label(0, i), fields_line(self._fields(0, i)), "", "removed", 1) for i in gone]
        contents = Counter(self.tokens[0]) if come else Counter()
        for j in come:
            twin = self.tokens[1].index(self.tokens[1][j]) if contents[self.tokens[1][j]] else j
            same = f", the same as {self._label(1, twin)}" if twin != j and keyed else " again" if twin != j else ""
            lines.append(Evidence(self._label(1, j), "", fields_line(self._fields(1, j)), f"added{same}", 1))
        subject, short, then = self.table, *counts
        if not (gone or come):
            names = [name for _, _, each in changed for name in each]
            subject = f"{self.table}.{names[0]}" if len(set(names)) == 1 else self.table
            short, then = "", f"{counted(len(changed), 'row')} changed"
            if len(names) == 1:
                i, j, _ = changed[0]
                short, then = (brief(rows.rows[n].get(names[0], ABSENT), 24) for rows, n in ((once, i), (now, j)))
        elif len(once.rows) == len(now.rows):
            short, then = "", f"{counted(max(len(gone), len(come)), 'row')} changed"
        return Finding("state", subject, short, then, capped(lines))

    def _by_key(self) -> tuple[list[int], list[int], list[tuple[int, int, list[str]]]]:
        mine = {key: i for i, key in enumerate(self.keys[0])}
        theirs = {key: j for j, key in enumerate(self.keys[1])}
        gone = [i for key, i in mine.items() if key not in theirs]
        come = [j for key, j in theirs.items() if key not in mine]
        changed = []
        for key, i in mine.items():
            j = theirs.get(key, -1)
            if j >= 0 and self.tokens[0][i] != self.tokens[1][j] and (names := self._differing(i, j)):
                changed.append((i, j, names))
        return gone, come, changed

    def _by_content(self) -> tuple[list[int], list[int], list[tuple[int, int, list[str]]]]:
        gone, come = unmatched(range(len(self.tokens[0])), range(len(self.tokens[1])), (self.tokens[0], self.tokens[1]))
        if 0 < len(gone) * len(come) <= 400:
            for i in list(gone):
                twin = next((j for j in come if not self._differing(i, j)), None)
                if twin is not None:
                    gone.remove(i)
                    come.remove(twin)
        if len(gone) == len(come) == 1 and (names := self._differing(gone[0], come[0])):
            return [], [], [(gone[0], come[0], names)]
        return gone, come, []

    def _differing(self, i: int, j: int) -> list[str]:
        mine, theirs = dict(self.tokens[0][i]), dict(self.tokens[1][j])
        old, new = self.rows[0].rows[i], self.rows[1].rows[j]
        return [
            name
            for name in dict.fromkeys([*old, *new])
            if (mine.get(name, ABSENT) != theirs.get(name, ABSENT))
            and not (self._plain(name) and self.walk.same(old.get(name, ABSENT), new.get(name, ABSENT)))
        ]

    def _plain(self, name: str) -> bool:
        return name not in self.rows[0].references and name not in self.rows[1].references

    def _changed(self, i: int, j: int, names: list[str]) -> list[Evidence]:
        old, new = self.rows[0].rows[i], self.rows[1].rows[j]
        label = self._label(1, j)
        if len(names) == 1:
            return list(self._field(f"{label} {names[0]}", old, new, names[0], 1))
        lines = [Evidence(label, "", "", "", 1)]
        for name in names:
            lines += self._field(name, old, new, name, 2)
        return lines

    def _field(self, label: str, old: Row, new: Row, name: str, depth: int) -> list[Evidence]:
        mine, theirs = old.get(name, ABSENT), new.get(name, ABSENT)
        found = list(self.walk.lines(label, mine, theirs, depth))
        return found or [Evidence(label, brief(mine), brief(theirs), "another row", depth)]

    def _label(self, side: int, number: int) -> str:
        rows = self.rows[side]
        if not rows.key:
            return f"row {number + 1}"
        values = [rows.rows[number].get(name) for name in rows.key]
        return "#" + ",".join(str(value) if isinstance(value, str) else brief(value, 36) for value in values)[:36]

    def _fields(self, side: int, number: int) -> Row:
        rows = self.rows[side]
        row = rows.rows[number]
        return {name: value for name, value in row.items() if name not in rows.key} or row

    def _token(self, row: Row, rows: Rows, labels: Labels, of: Any) -> frozenset[tuple[str, Hashable]]:
        made = self.made
        return frozenset(
            (name, labels.reference(rows, name, value, of) if name in rows.references else of(value))
            for name, value in row.items()
            if name not in rows.key or (name in rows.references and made) or not made
        )

    def _key(self, row: Row, rows: Rows, labels: Labels, of: Any) -> Hashable:
        values = tuple(row.get(name) for name in rows.key)
        if self.made:
            return labels.key(self.table, values)
        named = zip(rows.key, values, strict=True)
        return tuple(
            labels.reference(rows, name, value, of) if name in rows.references else of(value)
            for name, value in named
        )
