"""Rows of SQLite, PostgreSQL and MySQL tables, read with plain queries over any driver."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_jobs.probes.catalogs import Catalog, Query, Table
from pytest_jobs.world import Rows, Unreadable

__all__ = ["Tables", "Wrote", "cursor_query"]

UUID_TEXT = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
MOST_PLACES = 100
ADVICE = re.compile(r"\s*\n.*|\s*\(Background on this error.*", re.DOTALL)


@dataclass(slots=True)
class Wrote:
    """What jobs did in one database, as their statements say it.

    Attributes:
        tables: The names of tables that they wrote to, `ANY` where they do not say.
        calls: The functions that they called, in lower case.
    """

    tables: set[str] = field(default_factory=set)
    calls: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.tables or self.calls)


class _Named:
    """Finds tables as a statement names them."""

    def __init__(self, tables: Iterable[Table]) -> None:
        self._found: dict[str, dict[str, Table]] = {}
        for table in tables:
            # A name without a schema may mean a table of any: which one is up to the connection that it was said on.
            for name in (table.subject, table.name, f"{table.schema}.{table.name}"):
                self._found.setdefault(name.casefold(), {})[table.subject] = table

    def of(self, name: str) -> Iterable[Table]:
        found = self._found.get(name.casefold(), {})
        return [found[name]] if name in found and "." in name else list(found.values())


@dataclass(slots=True)
class Tables:
    """Reads the tables of one database, and remembers what they look like until that changes.

    Attributes:
        catalog: Knows how this kind of database describes itself.
        probe: Who reads, for what it could not read.
    """

    catalog: Catalog
    probe: str
    _signature: object = None
    _known: Mapping[str, Table] = field(default_factory=dict)
    _schemas: set[str] = field(default_factory=set)
    _routines: frozenset[str] | None = None

    def read(
        self, query: Query, wanted: Iterable[str] | None, wrote: "Wrote | None" = None
    ) -> tuple[dict[str, Rows], tuple[Unreadable, ...]]:
        """Return the rows of the wanted tables that exist, of all tables for None, or when any may have been written.

        Args:
            query: Runs one statement and returns its columns and rows.
            wanted: Subjects: table names, with their schema when that is not the default one.
            wrote: What statements wrote to and called, so far as it is not certain that it is known by its name.
        """
        wrote = wrote or Wrote()
        self._schemas |= {name.rpartition(".")[0] for name in (*wrote.tables, *(wanted or ())) if "." in name}
        known = self.described(query)
        names = _Named(known.values())
        if wanted is None or self._anywhere(query, names, wrote):
            chosen: Iterable[Table] = known.values()
        else:
            chosen = {table.subject: table for subject in sorted(wanted) for table in names.of(subject)}.values()
        state: dict[str, Rows] = {}
        unreadable: list[Unreadable] = []
        for table in chosen:
            rows = self._rows(query, table, unreadable)
            if rows is not None:
                state[table.subject] = rows
        for subject, rows in state.items():
            places = dict(self._places(query, rows, [target for target in known.values() if target.subject not in state]))
            state[subject] = replace(rows, places=places) if places else rows
        return state, tuple(unreadable)

    def _anywhere(self, query: Query, names: _Named, wrote: Wrote) -> bool:
        """Tell whether statements may have written to other tables than they name: through views, triggers, functions."""
        for name in wrote.tables:
            found = names.of(name)
            if not found or any(table.busy for table in found):
                return True
        if not wrote.calls:
            return False
        if self._routines is None:
            self._routines = self.catalog.routines(query)
        return bool(self._routines & wrote.calls)

    def _places(self, query: Query, rows: Rows, others: Iterable[Table]) -> Iterator[tuple[str, Mapping[Any, int]]]:
        """Yield the columns that point to other tables with made keys, with the places of their values there."""
        targets = {table.subject: table for table in others if table.surrogate and len(table.key) == 1}
        for column, subject in rows.references.items():
            values = {value for row in rows.rows if isinstance(value := row.get(column), int)}
            if subject not in targets or not 0 < len(values) <= MOST_PLACES:
                continue
            table, key = self._place(targets[subject]), self.catalog.quote(targets[subject].key[0])
            counted = f"SELECT COUNT(*) FROM {table} WHERE {key} <= "
            with suppress(Exception):
                yield column, {value: query(f"{counted}{value:d}")[1][0][0] for value in values}

    def _place(self, table: Table) -> str:
        return ".".join(self.catalog.quote(part) for part in (table.schema, table.name) if part)

    def described(self, query: Query) -> Mapping[str, Table]:
        """Return every table as its catalog describes it now, by subject."""
        signature = self.catalog.signature(query, frozenset(self._schemas))
        if signature != self._signature:
            self._known = {table.subject: table for table in self.catalog.tables(query, signature)}
            self._signature = signature
        return self._known

    def _rows(self, query: Query, table: Table, unreadable: list[Unreadable]) -> Rows | None:
        quote = self.catalog.quote
        place = self._place(table)
        order = f" ORDER BY {', '.join(map(quote, table.key))}" if table.key else ""
        try:
            columns, rows = query(f"SELECT * FROM {place}{order}")
        except Exception as error:  # noqa: BLE001 - each driver has its own family of errors
            readable = self._readable(query, table, place, unreadable)
            if not readable:
                reason = f"table {table.subject} could not be read: {_short(error)}"
                unreadable[:] = [each for each in unreadable if not each.reason.startswith(f"{table.subject}.")]
                unreadable.append(Unreadable(self.probe, reason))
                return None
            order = order if set(table.key) <= set(readable) else ""
            columns, rows = query(f"SELECT {', '.join(map(quote, readable))} FROM {place}{order}")
        key = table.key if set(table.key) <= set(columns) else ()
        kept = tuple({name: _value(each) for name, each in zip(columns, row, strict=False)} for row in rows)
        surrogate = bool(key) and (table.surrogate or _all_uuids(kept, key))
        return Rows(key, kept, surrogate, table.references)

    def _readable(self, query: Query, table: Table, place: str, unreadable: list[Unreadable]) -> list[str]:
        """Return the columns that can be read one by one, and tell of the others."""
        quote = self.catalog.quote
        found = []
        for column in table.columns:
            try:
                query(f"SELECT {quote(column)} FROM {place}")
            except Exception as error:  # noqa: BLE001 - each driver has its own family of errors
                reason = f"{table.subject}.{column} could not be read: {_short(error)}"
                unreadable.append(Unreadable(self.probe, reason))
            else:
                found.append(column)
        return found


def cursor_query(cursor: Callable[[], Any]) -> Query:
    """Return a query function over a DB-API connection's cursors, closing each."""

    def query(statement: str) -> tuple[list[str], Sequence[Any]]:
        opened = cursor()
        try:
            opened.execute(statement)
            if opened.description is None:
                return [], []
            columns = [column[0] for column in opened.description]
            return columns, [_positional(row, columns) for row in opened.fetchall()]
        finally:
            opened.close()

    return query


def _positional(row: Any, columns: list[str]) -> Sequence[Any]:
    return [row[name] for name in columns] if isinstance(row, Mapping) else tuple(row)


def _value(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview | bytearray) else value


def _all_uuids(rows: tuple[Mapping[str, Any], ...], key: tuple[str, ...]) -> bool:
    if len(key) != 1 or not rows:
        return False
    return all(isinstance(row[key[0]], str) and UUID_TEXT.fullmatch(row[key[0]]) for row in rows)


def _short(error: BaseException) -> str:
    return ADVICE.sub("", str(error)) or type(error).__name__
