"""Which tables an SQL statement writes to, read from its text."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

__all__ = ["ANY", "ENDS", "LOCK", "SCRIPT", "Statement", "Statements", "Write", "shortened"]

ANY = "any table"

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
    | (?P<delete>DELETE) (?:\s+(?:LOW_PRIORITY|QUICK|IGNORE))* (?P<several>(?:(?:\s+(?!FROM\b)|\s*,\s*)[\w.`*]+)*)
      \s+ FROM (?:\s+ONLY)? \s+
    | (?P<merge>MERGE) \s+ (?:INTO\s+)?
    | (?P<truncate>TRUNCATE) \s+ (?:TABLE\s+)? (?:ONLY\s+)?
    | (?P<copy>COPY) \s+ (?=[^;]*\bFROM\b)
    | (?P<ddl>CREATE|ALTER|DROP) \s+ (?:(?:OR\s+REPLACE|TEMP|TEMPORARY|UNLOGGED)\s+)* TABLE \s+
      (?:IF\s+(?:NOT\s+)?EXISTS\s+)? (?:ONLY\s+)?
    ) {NAME}
    """,
    re.VERBOSE | re.IGNORECASE,
)
NOT_A_WRITE = re.compile(r"(?:\bFOR\s+(?:NO\s+KEY\s+)?|\bON\s+CONFLICT\b[^;]*\bDO\s+|\bKEY\s+|\bON\s+)$", re.IGNORECASE)
WORDS = frozenset({"select", "set", "values", "skip", "nowait", "of", "from", "using", "cascade", "restrict"})
ENDS = frozenset({"COMMIT", "END", "RELEASE", "ROLLBACK", "ABORT", "BEGIN", "START", "SAVEPOINT"})
FIRST = re.compile(r"\s*(?:(?:--[^\n]*\n|/\*.*?\*/)\s*)*\(?\s*(\w+)", re.DOTALL)
# What follows the first table where a statement may write to several.
UNTIL = MappingProxyType({"update": r"\bSET\b|;", "delete": r"\bWHERE\b|\bUSING\b|;", "truncate": ";", "ddl": ";"})
MORE = re.compile(rf"(?:,|\bJOIN\b)\s*{NAME}", re.IGNORECASE)
# What they do is not in their text.
OPAQUE = frozenset({"CALL", "EXEC", "EXECUTE", "LOAD", "RENAME"})
ROUTINE = re.compile(r"\s*CREATE\b[^;(]*?\b(?:TRIGGER|FUNCTION|PROCEDURE|EVENT|RULE|PACKAGE)\b", re.IGNORECASE)
CALLED = re.compile(r"(?<![\w.@])(?:\w+\s*\.\s*)?(?P<name>\w+)\s*\(")
NEVER = frozenset({"SELECT", "PRAGMA", "SHOW", "SET", "EXPLAIN", "DESCRIBE", "FETCH", "VALUES", "VACUUM", "ANALYZE"})
DDL = frozenset({"CREATE", "ALTER", "DROP"})
LOCKS = re.compile(
    r"\bFOR\s+(?:NO\s+KEY\s+)?UPDATE\b|\bFOR\s+(?:KEY\s+)?SHARE\b|\bLOCK\s+IN\s+SHARE\s+MODE\b"
    r"|\bpg_(?:try_)?advisory_(?:xact_)?lock|\bGET_LOCK\s*\(|^\s*LOCK\s|^\s*BEGIN\s+(?:IMMEDIATE|EXCLUSIVE)\b",
    re.IGNORECASE,
)
LOCK = "LOCK"
SCRIPT = "SCRIPT"
LITERAL = re.compile(r"'(?:[^']|'')*'")
KEPT = 1000
# Not worth a look into the catalog.
BUILT_IN = frozenset({
    "all", "and", "any", "array", "as", "avg", "by", "case", "cast", "coalesce", "concat", "conflict", "copy",
    "count", "current_setting", "current_timestamp", "date", "date_trunc", "datetime", "distinct", "else", "exists",
    "extract", "filter", "from", "generate_series", "greatest", "group_concat", "having", "if", "ifnull", "in",
    "insert", "interval", "into", "is", "join", "json_build_object", "json_extract", "jsonb_build_object", "key",
    "last_insert_id", "least", "length", "like", "limit", "lower", "max", "min", "nextval", "not", "now", "nullif",
    "numeric", "on", "or", "order", "over", "partition", "primary", "random", "replace", "returning", "round", "row",
    "row_number", "select", "set", "setval", "string_agg", "strftime", "substr", "substring", "sum", "then",
    "to_char", "to_date", "trim", "unnest", "upper", "using", "values", "varchar", "when", "where", "with",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Write:
    """One table that a statement writes to.

    Attributes:
        verb: `INSERT`, `UPDATE`, `DELETE`, `REPLACE`, `MERGE`, `TRUNCATE`, `COPY`, `CREATE`, `ALTER`, `DROP`, or the whole
            label of what may write anywhere.
        table: The table as the statement names it, without quotes, its schema in front where it has one; `ANY` where the
            text does not tell.
    """

    verb: str
    table: str

    def label(self, subject: str) -> str:
        """Return what a timeline says, with what the table is called in the world."""
        return self.verb if self.table == ANY else f"{self.verb} {subject}"


class Statement(NamedTuple):
    """What is known of a statement, or of several in one text.

    Attributes:
        first: Its first word in capitals, `LOCK` for one that only locks.
        writes: The tables that it writes to, the one that it is named after last.
        calls: The functions that it calls, in lower case: those of the project may write too.
    """

    first: str
    writes: tuple[Write, ...]
    calls: frozenset[str] = frozenset()


class Statements:
    """Reads statements, and remembers those it has read."""

    def __init__(self, fold: bool = False) -> None:
        self._fold = fold
        self._known: dict[str, Statement] = {}

    def read(self, statement: str) -> Statement:
        """Return what a statement does.

        Args:
            statement: SQL of any dialect.
        """
        known = self._known.get(statement)
        if known is None:
            if len(self._known) >= KEPT:
                self._known.clear()
            known = self._known[statement] = self._read(statement)
        return known

    def known(self, statement: Any) -> Statement | None:
        """Return what was read of a statement before, None for a new one."""
        return self._known.get(statement) if isinstance(statement, str) else None

    def _read(self, statement: str) -> Statement:
        text = NOISE.sub(lambda noise: "''" if noise[0][0] in "'$" else " ", statement)
        parts = [text] if ROUTINE.match(text) else [part for part in text.split(";") if part.strip()]
        read = [self._one(part) for part in parts]
        if len(read) < 2:
            return read[0] if read else Statement("", ())
        writes = {write.table: write for each in read for write in each.writes}
        firsts = [each.first for each in read]
        first = LOCK if not writes and LOCK in firsts else SCRIPT if ENDS.intersection(firsts) else firsts[0]
        return Statement(first, tuple(writes.values()), frozenset().union(*(each.calls for each in read)))

    def _one(self, text: str) -> Statement:
        start = FIRST.match(text)
        first = start[1].upper() if start else ""
        calls = frozenset(match["name"].lower() for match in CALLED.finditer(text)) - BUILT_IN
        if first in NEVER or first in ENDS:
            return Statement(LOCK if LOCKS.search(text) else first, (), calls)
        if first in OPAQUE or (first == "DO" and "(" not in text):
            named = re.match(rf"\W*\w+\s+(?!DATA\b|TABLE\b){NAME}", text, re.IGNORECASE)
            return Statement(first, (Write(f"{first} {self._name(named)}" if named else first, ANY),), calls)
        writes: dict[str, Write] = {}
        for match in WRITE.finditer(text):
            write = self._write(match, text)
            if write is not None and (first not in DDL or write.verb == first):
                for other in self._others(match, text):
                    writes.setdefault(other, Write(write.verb, other))
                writes.setdefault(write.table, write)
        if not writes and LOCKS.search(text):
            first = LOCK
        return Statement(first, tuple(writes.values()), calls.difference(map(_last_part, writes)))

    def _others(self, match: re.Match[str], text: str) -> list[str]:
        """Return the further tables of a list or a join."""
        kind = next((kind for kind in UNTIL if match[kind]), "")
        if not kind or (kind == "delete" and not match["several"]):
            return []
        rest = re.split(UNTIL[kind], text[match.end() :], maxsplit=1, flags=re.IGNORECASE)[0]
        return [self._name(found) for found in MORE.finditer(rest) if found["name"].lower() not in WORDS]

    def _name(self, match: re.Match[str]) -> str:
        return ".".join(self._part(part) for part in re.findall(PART, match["name"]))

    def _write(self, match: re.Match[str], text: str) -> Write | None:
        name = match["name"]
        if name.lower() in WORDS or NOT_A_WRITE.search(text[: match.start()][-200:]):
            return None
        verb = next(match[group] for group in GROUPS if match[group])
        return Write(verb.upper(), self._name(match))

    def _part(self, part: str) -> str:
        if part[0] in '"`[':
            quote = {"[": "]"}.get(part[0], part[0])
            return part[1:-1].replace(quote * 2, quote)
        return part.lower() if self._fold else part


GROUPS = ("insert", "update", "delete", "merge", "truncate", "copy", "ddl")


def _last_part(table: str) -> str:
    return table.rpartition(".")[2].lower()


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
