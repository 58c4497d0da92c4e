"""Which tables an SQL statement writes to, read from its text."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["ENDS", "LOCK", "Statements", "Write", "shortened"]

NOISE = re.compile(
    r"""
      '(?:[^'\\]|''|\\.)*'            # text
    | --[^\n]*                        # comment to the end of the line
    | /\*.*?\*/                       # comment
    | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$ # dollar-quoted text
    """,
    re.VERBOSE | re.DOTALL,
)
PART = r'(?:"(?:[^"]|"")+"|`(?:[^`]|``)+`|\[[^\]]+\]|[\w$@\#]+)'
NAME = rf"(?P<name>{PART}(?:\s*\.\s*{PART}){{0,3}})"
WRITE = re.compile(
    rf"""
    (?<![\w.])(?:
      (?P<insert>INSERT|REPLACE) (?:\s+(?:LOW_PRIORITY|HIGH_PRIORITY|DELAYED|IGNORE|OR\s+\w+))* \s+ (?:INTO\s+)?
    | (?P<update>UPDATE) (?:\s+(?:LOW_PRIORITY|IGNORE|ONLY|OR\s+\w+))* \s+
    | (?P<delete>DELETE) (?:\s+(?:LOW_PRIORITY|QUICK|IGNORE))* (?:\s+(?!FROM\b)[\w.]+)? \s+ FROM (?:\s+ONLY)? \s+
    | (?P<merge>MERGE) \s+ (?:INTO\s+)?
    | (?P<truncate>TRUNCATE) \s+ (?:TABLE\s+)? (?:ONLY\s+)?
    | (?P<copy>COPY) \s+ (?=[^;]*\bFROM\b)
    | (?P<ddl>CREATE|ALTER|DROP) \s+ (?:(?:OR\s+REPLACE|TEMP|TEMPORARY|UNLOGGED)\s+)* TABLE \s+ (?:IF\s+(?:NOT\s+)?EXISTS\s+)?
    ) {NAME}
    """,
    re.VERBOSE | re.IGNORECASE,
)
NOT_A_WRITE = re.compile(r"(?:\bFOR\s+(?:NO\s+KEY\s+)?|\bON\s+CONFLICT\b[^;]*\bDO\s+|\bKEY\s+|\bON\s+)$", re.IGNORECASE)
WORDS = frozenset({"select", "set", "values", "skip", "nowait", "of", "from", "using", "cascade", "restrict"})
ENDS = frozenset({"COMMIT", "END", "RELEASE", "ROLLBACK", "ABORT", "BEGIN", "START", "SAVEPOINT"})
FIRST = re.compile(r"\s*(?:(?:--[^\n]*\n|/\*.*?\*/)\s*)*\(?\s*(\w+)", re.DOTALL)
NEVER = frozenset({"SELECT", "PRAGMA", "SHOW", "SET", "EXPLAIN", "DESCRIBE", "FETCH", "VALUES", "VACUUM", "ANALYZE"})
DDL = frozenset({"CREATE", "ALTER", "DROP"})
LOCKS = re.compile(
    r"\bFOR\s+(?:NO\s+KEY\s+)?UPDATE\b|\bFOR\s+(?:KEY\s+)?SHARE\b|\bLOCK\s+IN\s+SHARE\s+MODE\b"
    r"|\bpg_(?:try_)?advisory_(?:xact_)?lock|\bGET_LOCK\s*\(|^\s*LOCK\s|^\s*BEGIN\s+(?:IMMEDIATE|EXCLUSIVE)\b",
    re.IGNORECASE,
)
LOCK = "LOCK"
LITERAL = re.compile(r"'(?:[^']|'')*'")
KEPT = 1000


@dataclass(frozen=True, slots=True)
class Write:
    """One table that a statement writes to.

    Attributes:
        verb: `INSERT`, `UPDATE`, `DELETE`, `REPLACE`, `MERGE`, `TRUNCATE`, `COPY`, `CREATE`, `ALTER` or `DROP`.
        table: The table as the statement names it, without quotes, its schema in front where it has one.
    """

    verb: str
    table: str


class Statements:
    """Reads statements, and remembers those it has read."""

    def __init__(self, fold: bool = False) -> None:
        self._fold = fold
        self._known: dict[str, tuple[str, tuple[Write, ...]]] = {}

    def read(self, statement: str) -> tuple[str, tuple[Write, ...]]:
        """Return a statement's first word in capitals, `LOCK` for one that only locks, and the tables that it writes to.

        Args:
            statement: SQL of any dialect, one statement.
        """
        known = self._known.get(statement)
        if known is None:
            if len(self._known) >= KEPT:
                self._known.clear()
            known = self._known[statement] = self._read(statement)
        return known

    def known(self, statement: Any) -> tuple[str, tuple[Write, ...]] | None:
        """Return what was read of a statement before, None for a new one."""
        return self._known.get(statement) if isinstance(statement, str) else None

    def _read(self, statement: str) -> tuple[str, tuple[Write, ...]]:
        start = FIRST.match(statement)
        first = start[1].upper() if start else ""
        if first in NEVER or first in ENDS:
            return (LOCK if LOCKS.search(statement) else first), ()
        text = NOISE.sub(lambda noise: "''" if noise[0][0] in "'$" else " ", statement)
        writes: dict[str, Write] = {}
        for match in WRITE.finditer(text):
            write = self._write(match, text)
            if write is not None and (first not in DDL or write.verb == first):
                writes.setdefault(write.table, write)
        if not writes and LOCKS.search(text):
            first = LOCK
        return first, tuple(writes.values())

    def _write(self, match: re.Match[str], text: str) -> Write | None:
        name = match["name"]
        if name.lower() in WORDS or NOT_A_WRITE.search(text[: match.start()][-200:]):
            return None
        verb = next(match[group] for group in GROUPS if match[group])
        return Write(verb.upper(), ".".join(self._part(part) for part in re.findall(PART, name)))

    def _part(self, part: str) -> str:
        if part[0] in '"`[':
            quote = {"[": "]"}.get(part[0], part[0])
            return part[1:-1].replace(quote * 2, quote)
        return part.lower() if self._fold else part


GROUPS = ("insert", "update", "delete", "merge", "truncate", "copy", "ddl")


def shortened(parameters: Any, statement: str = "", longest: int = 200) -> str:
    """Return a statement's parameters and literals as text for a failure's evidence, the statement itself when it has none."""
    if not parameters:
        return _cut(" ".join(statement.split()), longest)
    written = "".join(f"; {literal}" for literal in LITERAL.findall(statement)[:3])
    if isinstance(parameters, Mapping):
        return _cut(", ".join(f"{name}={value!r}" for name, value in parameters.items()) + written, longest)
    if isinstance(parameters, Iterable) and not isinstance(parameters, str | bytes):
        members = list(parameters)
        if members and all(isinstance(each, list | tuple | Mapping) for each in members):
            rest = f" and {len(members) - 1} more" if len(members) > 1 else ""
            return shortened(members[0], longest=longest) + rest
        return _cut(", ".join(map(repr, members)) + written, longest)
    return _cut(repr(parameters), longest)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
