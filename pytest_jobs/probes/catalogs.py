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
    """One table as its catalog describes it.

    Attributes:
        busy: Whether the database itself does more when it is written to (triggers, rules).
    """

    schema: str | None
    name: str
    subject: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    surrogate: bool
    references: Mapping[str, str] = field(default_factory=dict)
    busy: bool = False


class Catalog(Protocol):
    """Knows how one kind of database describes itself."""

    def quote(self, name: str) -> str:
        """Return an identifier as it is written in a statement."""

    def signature(self, query: Query, schemas: frozenset[str]) -> object:
        """Return something that differs as soon as a table was made, altered or dropped.

        Args:
            query: Runs a statement.
            schemas: Those that count, besides the ones that always do.
        """

    def tables(self, query: Query, signature: Any) -> Iterator[Table]:
        """Describe each table, views and system tables excepted."""

    def routines(self, query: Query) -> frozenset[str]:
        """Return the names, in lower case, of functions of the project that may write."""


class _Sqlite:
    """The catalog of SQLite, with attached databases."""

    def quote(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    def signature(self, query: Query, schemas: frozenset[str]) -> object:
        found = []
        for _, schema, *_ in query("PRAGMA database_list")[1]:
            if schema == "temp":
                continue
            place = f"{self.quote(schema)}.sqlite_master"
            busy = f"EXISTS (SELECT 1 FROM {place} t WHERE t.type = 'trigger' AND t.tbl_name = m.name)"
            listed = f"SELECT name, sql, {busy} FROM {place} m WHERE type = 'table' ORDER BY rowid"
            found += [(schema, *row) for row in query(listed)[1] if not row[0].startswith("sqlite_")]
        return tuple(found)

    def tables(self, query: Query, signature: Any) -> Iterator[Table]:
        virtual = tuple(f"{name}_" for _, name, sql, _ in signature if str(sql).upper().startswith("CREATE VIRTUAL"))
        for schema, name, _, busy in signature:
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
            yield Table(schema, name, f"{prefix}{name}", names, key, surrogate, references, bool(busy))

    def routines(self, query: Query) -> frozenset[str]:
        return frozenset()


POSTGRES_TABLES = """
SELECT n.nspname, c.relname, c.oid::bigint, n.nspname = current_schema(), c.relhasrules OR c.oid = ANY (
ARRAY(SELECT t.tgrelid FROM pg_catalog.pg_trigger t WHERE NOT t.tgisinternal)), count(a.attnum), max(a.attnum)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
AND left(n.nspname, 3) <> 'pg_' AND n.nspname <> 'information_schema'
GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2"""
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
POSTGRES_ROUTINES = """
SELECT lower(p.proname) FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE p.provolatile = 'v' AND p.prokind = 'f' AND p.prorettype <> 'trigger'::regtype
AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND NOT EXISTS (
SELECT 1 FROM pg_catalog.pg_depend d WHERE d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e')"""


class _Postgres:
    """The catalog of PostgreSQL."""

    def quote(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    def signature(self, query: Query, schemas: frozenset[str]) -> object:
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
        for schema, name, table, _, busy, *_ in signature:
            keyed = sorted((column for column in columns[table] if column[1] is not None), key=lambda each: each[1])
            key = tuple(column[0] for column in keyed)
            surrogate = len(key) == 1 and bool(keyed[0][2])
            names = tuple(column[0] for column in columns[table])
            yield Table(schema, name, subjects[table], names, key, surrogate, links.get(table, {}), bool(busy))

    def routines(self, query: Query) -> frozenset[str]:
        return frozenset(name for (name,) in query(POSTGRES_ROUTINES)[1])


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
WHERE c.table_schema IN ({schemas}) ORDER BY 1, 2, c.ordinal_position"""
MYSQL_LINKS = """
SELECT table_schema, table_name, column_name, referenced_table_schema, referenced_table_name
FROM information_schema.key_column_usage
WHERE referenced_table_name IS NOT NULL AND table_schema IN ({schemas})"""
MYSQL_TRIGGERS = "SELECT DISTINCT event_object_schema, event_object_table FROM information_schema.triggers"
MYSQL_ROUTINES = """
SELECT lower(routine_name) FROM information_schema.routines WHERE routine_type = 'FUNCTION'
AND routine_schema = database() AND sql_data_access NOT IN ('NO SQL', 'READS SQL DATA')"""


class _Mysql:
    """The catalog of MySQL and MariaDB: of the current database, and of others that are named."""

    def quote(self, name: str) -> str:
        return "`" + name.replace("`", "``") + "`"

    def signature(self, query: Query, schemas: frozenset[str]) -> object:
        found = [row for row in query(MYSQL_TABLES)[1] if row[3] or row[0] in schemas]
        triggers = {tuple(row) for row in query(MYSQL_TRIGGERS)[1]}
        return tuple((*row, (row[0], row[1]) in triggers) for row in found)

    def tables(self, query: Query, signature: Any) -> Iterator[Table]:
        subjects = {(row[0], row[1]): row[1] if row[3] else f"{row[0]}.{row[1]}" for row in signature}
        schemas = ", ".join("'" + schema.replace("'", "''") + "'" for schema in sorted({schema for schema, _ in subjects}))
        if not schemas:
            return
        columns = defaultdict(list)
        for schema, table, name, position, made in query(MYSQL_COLUMNS.format(schemas=schemas))[1]:
            columns[schema, table].append((name, position, made))
        links: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
        for schema, table, name, target_schema, target in query(MYSQL_LINKS.format(schemas=schemas))[1]:
            links[schema, table][name] = subjects.get((target_schema, target), target)
        for schema, name, _, _, busy in signature:
            keyed = sorted((each for each in columns[schema, name] if each[1] is not None), key=lambda each: each[1])
            key = tuple(column[0] for column in keyed)
            surrogate = len(key) == 1 and bool(keyed[0][2])
            names = tuple(column[0] for column in columns[schema, name])
            yield Table(schema, name, subjects[schema, name], names, key, surrogate, links.get((schema, name), {}), busy)

    def routines(self, query: Query) -> frozenset[str]:
        return frozenset(name for (name,) in query(MYSQL_ROUTINES)[1])


CATALOGS: Mapping[str, Catalog] = MappingProxyType({"sqlite": _Sqlite(), "postgresql": _Postgres(), "mysql": _Mysql()})
