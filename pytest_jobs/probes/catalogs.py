"""What the tables of a database look like, asked of its own catalog."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

__all__ = ["CATALOGS", "Catalog", "Query", "Table"]

Query = Callable[[str], tuple[list[str], Sequence[Any]]]


@dataclass(frozen=True, slots=True)
class Table:
    """One table as its catalog describes it."""

    schema: str | None
    name: str
    subject: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    surrogate: bool
    references: Mapping[str, str] = field(default_factory=dict)


class Catalog(Protocol):
    """Knows how one kind of database describes itself."""

    def quote(self, name: str) -> str:
        """Return an identifier as it is written in a statement."""

    def signature(self, query: Query) -> object:
        """Return something that differs as soon as a table was made, altered or dropped."""

    def tables(self, query: Query, signature: Any) -> Iterator[Table]:
        """Describe each table, views and system tables excepted."""


class _Sqlite:
    """The catalog of SQLite, with attached databases."""

    def quote(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    def signature(self, query: Query) -> object:
        found = []
        for _, schema, *_ in query("PRAGMA database_list")[1]:
            if schema == "temp":
                continue
            listed = f"SELECT name, sql FROM {self.quote(schema)}.sqlite_master WHERE type = 'table' ORDER BY rowid"
            found += [(schema, name, sql) for name, sql in query(listed)[1] if not name.startswith("sqlite_")]
        return tuple(found)

    def tables(self, query: Query, signature: Any) -> Iterator[Table]:
        virtual = tuple(f"{name}_" for _, name, sql in signature if str(sql).upper().startswith("CREATE VIRTUAL"))
        for schema, name, _ in signature:
            if virtual and name.startswith(virtual):
                continue
            prefix = "" if schema == "main" else f"{schema}."
            place = f"{self.quote(schema)}.{{}}({self.quote(name)})"
            columns = query(f"PRAGMA {place.format('table_info')}")[1]
            key = tuple(column[1] for column in sorted(columns, key=lambda column: column[5]) if column[5])
            surrogate = len(key) == 1 and any(column[5] and str(column[2]).upper() == "INTEGER" for column in columns)
            links = query(f"PRAGMA {place.format('foreign_key_list')}")[1]
            references = {link[3]: f"{prefix}{link[2]}" for link in links}
            names = tuple(column[1] for column in columns)
            yield Table(schema, name, f"{prefix}{name}", names, key, surrogate, references)


POSTGRES_TABLES = """
SELECT n.nspname, c.relname, c.oid::bigint, n.nspname = current_schema(), count(a.attnum), max(a.attnum)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
AND left(n.nspname, 3) <> 'pg_' AND n.nspname <> 'information_schema'
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2"""
POSTGRES_COLUMNS = """
SELECT a.attrelid::bigint, a.attname, array_position(i.indkey::int2[], a.attnum),
a.attidentity <> '' OR coalesce(pg_get_expr(d.adbin, d.adrelid), '') ~* 'nextval|uuid'
OR a.atttypid = 'uuid'::regtype
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
LEFT JOIN pg_catalog.pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped ORDER BY 1, a.attnum"""
POSTGRES_LINKS = """
SELECT k.conrelid::bigint, a.attname, k.confrelid::bigint
FROM pg_catalog.pg_constraint k CROSS JOIN LATERAL unnest(k.conkey) AS u(attnum)
JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum
WHERE k.contype = 'f'"""


class _Postgres:
    """The catalog of PostgreSQL."""

    def quote(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    def signature(self, query: Query) -> object:
        return tuple(tuple(row) for row in query(POSTGRES_TABLES)[1])

    def tables(self, query: Query, signature: Any) -> Iterator[Table]:
        subjects = {row[2]: row[1] if row[3] else f"{row[0]}.{row[1]}" for row in signature}
        columns = defaultdict(list)
        for table, name, position, made in query(POSTGRES_COLUMNS)[1]:
            columns[table].append((name, position, made))
        links: dict[int, dict[str, str]] = defaultdict(dict)
        for table, name, target in query(POSTGRES_LINKS)[1]:
            if target in subjects:
                links[table][name] = subjects[target]
        for schema, name, table, *_ in signature:
            keyed = sorted((column for column in columns[table] if column[1] is not None), key=lambda each: each[1])
            key = tuple(column[0] for column in keyed)
            surrogate = len(key) == 1 and bool(keyed[0][2])
            names = tuple(column[0] for column in columns[table])
            yield Table(schema, name, subjects[table], names, key, surrogate, links.get(table, {}))


MYSQL_TABLES = """
SELECT table_schema, table_name, create_time, table_schema = database()
FROM information_schema.tables WHERE table_type = 'BASE TABLE'
AND table_schema NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys') ORDER BY 1, 2"""
MYSQL_COLUMNS = """
SELECT c.table_schema, c.table_name, c.column_name, k.ordinal_position,
c.extra LIKE '%auto_increment%' OR coalesce(c.column_default, '') LIKE '%uuid%' OR c.data_type = 'uuid'
FROM information_schema.columns c LEFT JOIN information_schema.key_column_usage k
ON k.constraint_name = 'PRIMARY' AND k.table_schema = c.table_schema
AND k.table_name = c.table_name AND k.column_name = c.column_name
WHERE c.table_schema = database() ORDER BY 1, 2, c.ordinal_position"""
MYSQL_LINKS = """
SELECT table_schema, table_name, column_name, referenced_table_name
FROM information_schema.key_column_usage
WHERE referenced_table_name IS NOT NULL AND table_schema = database()"""


class _Mysql:
    """The catalog of MySQL and MariaDB, the current database only."""

    def quote(self, name: str) -> str:
        return "`" + name.replace("`", "``") + "`"

    def signature(self, query: Query) -> object:
        return tuple(tuple(row) for row in query(MYSQL_TABLES)[1] if row[3])

    def tables(self, query: Query, signature: Any) -> Iterator[Table]:
        columns = defaultdict(list)
        for schema, table, name, position, made in query(MYSQL_COLUMNS)[1]:
            columns[schema, table].append((name, position, made))
        links: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
        for schema, table, name, target in query(MYSQL_LINKS)[1]:
            links[schema, table][name] = target
        for schema, name, *_ in signature:
            keyed = sorted((each for each in columns[schema, name] if each[1] is not None), key=lambda each: each[1])
            key = tuple(column[0] for column in keyed)
            surrogate = len(key) == 1 and bool(keyed[0][2])
            names = tuple(column[0] for column in columns[schema, name])
            yield Table(schema, name, name, names, key, surrogate, links.get((schema, name), {}))


CATALOGS: Mapping[str, Catalog] = MappingProxyType({"sqlite": _Sqlite(), "postgresql": _Postgres(), "mysql": _Mysql()})
