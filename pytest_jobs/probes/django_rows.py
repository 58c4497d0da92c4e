"""Rows of Django's databases: of every table that a job wrote, of a model, of a queryset."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

from django.apps import apps
from django.db import connections, router
from django.db.models import AutoField, UUIDField

from pytest_jobs.probes.catalogs import CATALOGS
from pytest_jobs.probes.django_commits import of_the_test, raw
from pytest_jobs.probes.django_orm import OURS, subject
from pytest_jobs.probes.tables import Tables, Wrote, cursor_query
from pytest_jobs.world import Rows, Unreadable

__all__ = ["model_rows", "queryset_rows", "tables_rows"]

Seen = tuple[dict[str, Rows], tuple[Unreadable, ...]]


def tables_rows(alias: str, tables: Iterable[str], known: dict[str, Tables], wrote: Wrote | None = None) -> Seen:
    """Return the rows of those tables of one database that exist, by their subject.

    Args:
        alias: The database.
        tables: Their names there.
        known: What is remembered of each database's tables from one look to the next.
        wrote: What statements wrote to and called there.
    """
    db = connections[alias]
    if db.vendor not in CATALOGS:
        return {}, (Unreadable("django", f"the database {alias} is {db.vendor}, which the plugin cannot read"),)
    try:
        with _looking(db) as reader:
            return _read(reader, tables, known.setdefault(alias, Tables(CATALOGS[db.vendor], "django")), wrote)
    except Exception as error:  # noqa: BLE001 - each driver has its own family of errors
        return {}, (Unreadable("django", f"the database {alias} could not be read: {error}"),)


def model_rows(model: Any) -> tuple[str, Rows]:
    """Return a model's table: its subject and its rows.

    Raises:
        LookupError: When the table cannot be read; it says why.
    """
    alias = router.db_for_read(model)
    state, unreadable = tables_rows(alias, [model._meta.db_table], {})
    for named, rows in state.items():
        return named, rows
    raise LookupError(unreadable[0].reason if unreadable else f"there is no table {model._meta.db_table}")


def queryset_rows(queryset: Any) -> tuple[str, Rows]:
    """Return what a queryset selects: the subject of its table, and those rows."""
    meta = queryset.model._meta
    named = subject(queryset.db, meta.db_table)
    if getattr(queryset, "_fields", None) is not None:
        chosen = tuple(each if isinstance(each, dict) else {"value": each} for each in queryset)
        return named, Rows((), chosen)
    fields = meta.concrete_fields
    with _uncounted(connections[queryset.db]):
        found = list(queryset.values_list(*(field.attname for field in fields)))
    columns = [field.column for field in fields]
    rows = Rows((meta.pk.column,), tuple(dict(zip(columns, row, strict=True)) for row in found))
    return named, _described(rows, queryset.model, queryset.db)


def _read(db: Any, tables: Iterable[str], known: Tables, wrote: Wrote | None) -> Seen:
    query = cursor_query(lambda: db.connection.cursor())

    def guarded(statement: str) -> Any:
        if db.vendor != "postgresql" or not db.in_atomic_block:
            return query(statement)
        raw(db, f"SAVEPOINT {OURS}look")
        try:
            return query(statement)
        finally:
            raw(db, f"ROLLBACK TO SAVEPOINT {OURS}look")
            raw(db, f"RELEASE SAVEPOINT {OURS}look")

    state, unreadable = known.read(guarded, tables, wrote)
    models = {model._meta.db_table: model for model in apps.get_models(include_auto_created=True)}
    named = {}
    for table, rows in state.items():
        named[subject(db.alias, table)] = _described(rows, models[table], db.alias) if table in models else rows
    return named, unreadable


def _described(rows: Rows, model: Any, alias: str) -> Rows:
    """Add what the model knows and the database does not: keys that the job makes, unenforced references."""
    meta = model._meta
    references = {} if alias != "default" else dict(rows.references)
    for field in meta.concrete_fields:
        remote = field.remote_field
        if remote is not None and getattr(field, "many_to_one", False) | getattr(field, "one_to_one", False):
            references[field.column] = subject(alias, remote.model._meta.db_table)
    made = isinstance(meta.pk, AutoField) or (isinstance(meta.pk, UUIDField) and meta.pk.has_default())
    return replace(rows, references=references, surrogate=made and bool(rows.key), rows=_uuids(rows.rows, meta))


def _uuids(rows: tuple[Mapping[str, Any], ...], meta: Any) -> tuple[Mapping[str, Any], ...]:
    """Return rows with UUIDs as such, where the database holds them as text."""
    columns = [field.column for field in meta.concrete_fields if isinstance(_target(field), UUIDField)]
    if not any(isinstance(row.get(column), str) for row in rows for column in columns):
        return rows
    return tuple({**row, **{name: UUID(row[name]) for name in columns if isinstance(row[name], str)}} for row in rows)


def _target(field: Any) -> Any:
    while field.remote_field is not None and hasattr(field, "target_field"):
        field = field.target_field
    return field


@contextmanager
def _looking(db: Any) -> Iterator[Any]:
    """Give a connection that sees what is committed: the test's own while it is in the test's transaction."""
    own = any(not of_the_test(block) for block in db.atomic_blocks)
    alone = getattr(db, "is_in_memory_db", lambda: False)()
    if own and not alone and not any(of_the_test(block) for block in db.atomic_blocks):
        other = connections.create_connection(db.alias)
        try:
            other.ensure_connection()
            yield other
        finally:
            other.close()
        return
    opened = db.connection is None
    with _uncounted(db):
        db.ensure_connection()
        yield db
    if opened:
        db.close()


@contextmanager
def _uncounted(db: Any) -> Iterator[None]:
    """Keep a look at the world out of the queries that a test counts."""
    before, db.force_debug_cursor = db.force_debug_cursor, False
    try:
        yield
    finally:
        db.force_debug_cursor = before
