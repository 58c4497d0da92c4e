"""SQL that a task sends through Django: writes, commits, and transactions as they would be without the test's own."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.models import QuerySet

from pytest_jobs.probes.base import NO_ROW_LOCKS, OF_THE_TEST, SINGLE, Held, Patches, Recorder
from pytest_jobs.probes.django_commits import (
    OURS,
    Blocks,
    Hooks,
    autocommitting,
    guarded,
    of_the_test,
    own_blocks,
    raw,
    suspended,
    unavailable,
    unwind,
)
from pytest_jobs.probes.sqltext import LOCK, Statement, Statements, shortened
from pytest_jobs.records import Effect

__all__ = ["OURS", "Orm", "subject"]



def subject(alias: str, table: str) -> str:
    """Return what a table is called in the world; databases other than the default one are named."""
    return table if alias == "default" else f"{table}@{alias}"


class Orm:
    """Owns the hooks on Django's connections, and what it knows of each connection's transaction.

    Inside a test's transaction a job's outermost atomic block is a savepoint, and what it writes outside of any block
    is not autocommitted: the hooks make errors and kills there leave what they would leave in production.
    """

    def __init__(self, recorder: Recorder, patches: Patches) -> None:
        self.written: dict[str, dict[str, None]] = {}
        self.called: dict[str, set[str]] = {}
        self.on_use: Callable[[Any], None] = lambda db: None
        self._recorder = recorder
        self._statements = {False: Statements(), True: Statements(fold=True)}
        self._dirty: WeakKeyDictionary[Any, dict[str, None]] = WeakKeyDictionary()
        self._begun: WeakKeyDictionary[Any, tuple[int, Any]] = WeakKeyDictionary()
        self._over: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()
        self._ending: WeakSet[Any] = WeakSet()
        self._locking: WeakSet[Any] = WeakSet()
        self._stepping: WeakSet[Any] = WeakSet()  # through rows that SQLite makes one by one
        self._lockless: WeakSet[Any] = WeakSet()  # with row locks that the database does not know
        self._of_the_test: set[str] = set()
        self._savepoints = 0
        patches.replace(CursorWrapper, "_execute", self._execute)
        patches.replace(CursorWrapper, "_executemany", self._execute)
        patches.replace(BaseDatabaseWrapper, "_commit", self._commit)
        patches.replace(BaseDatabaseWrapper, "_rollback", self._rollback)
        patches.replace(BaseDatabaseWrapper, "_savepoint_commit", self._savepoint_commit)
        patches.replace(BaseDatabaseWrapper, "_savepoint_rollback", self._savepoint_rollback)
        patches.replace(transaction.Atomic, "__enter__", self._enter)
        patches.replace(QuerySet, "select_for_update", self._select_for_update)
        patches.replace(transaction, "mark_for_rollback_on_error", self._mark)
        self.blocks = Blocks(patches)
        self._hooks = Hooks(recorder, patches)

    def forget(self) -> None:
        """Roll back each transaction that a job began and has not ended."""
        for db in list(self._begun):
            depth = self._depth(db)
            if depth is not None and db._thread_ident == threading.get_ident():
                unwind(db, depth)
        for known in (self._begun, self._dirty, self._over):
            known.clear()
        self.blocks.forget()

    def holding(self) -> Iterator[Held]:
        """Yield the connections on which a job holds a transaction open in which it wrote, or locks."""
        # Nobody else can use a connection in the middle of its commit.
        ending = [db for db in self._ending if not self._alone(db)]
        for db in dict.fromkeys([*self._dirty, *(db for db in self._locking if own_blocks(db)), *ending, *self._stepping]):
            yield Held(db, self._alone(db))

    def _alone(self, db: Any) -> str:
        """Say why no other thread could have a connection beside this one."""
        if db.vendor == "sqlite" and db.is_in_memory_db():
            return SINGLE
        if db in self._lockless and own_blocks(db):
            return NO_ROW_LOCKS
        return OF_THE_TEST if db.alias in self._of_the_test else ""

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Let another job run beside this one, whose open blocks wrote nothing and are begun again afterwards."""
        begun = [(db, db.atomic_blocks.index(own_blocks(db)[0])) for db in list(self._begun) if own_blocks(db)]
        with ExitStack() as stack:
            for db, depth in begun:
                if db._thread_ident == threading.get_ident():
                    stack.enter_context(suspended(db, depth))
            yield

    def _depth(self, db: Any) -> int | None:
        """Return how many blocks lie below the outermost one that a job opened, None when it has none open."""
        depth, block = self._begun.get(db, (0, None))
        return depth if block in db.atomic_blocks[depth : depth + 1] else None

    # Statements

    def _execute(self, original: Any) -> Any:
        def _execute(cursor: Any, sql: Any, params: Any, *rest: Any) -> Any:
            db = cursor.db
            self.on_use(db)
            if self._recorder.rival is not None:
                self._recorder.rival.uses(db, self._alone(db))
            elif db.atomic_blocks and of_the_test(db.atomic_blocks[0]):
                self._of_the_test.add(db.alias)
            else:
                self._of_the_test.discard(db.alias)
            if self._recorder.sink is None:
                if own_blocks(db):
                    self.blocks.wrote(db, dict.fromkeys(subject(db.alias, each.table) for each in self._read(db, sql).writes))
                return original(cursor, sql, params, *rest)
            first, writes, calls = self._read(db, sql)
            if calls and db.vendor != "sqlite":
                self.called.setdefault(db.alias, set()).update(calls)
            if not writes:
                if first == LOCK:
                    self._locking.add(db)
                return original(cursor, sql, params, *rest)
            tables = dict.fromkeys(write.table for write in writes)
            self.written.setdefault(db.alias, {}).update(tables)
            pending = bool(own_blocks(db)) or not (db.in_atomic_block or db.autocommit)
            if pending:
                named_tables = dict.fromkeys(subject(db.alias, table) for table in tables)
                self._dirty.setdefault(db, {}).update(named_tables)
                self.blocks.wrote(db, named_tables)
            named, detail = subject(db.alias, writes[-1].table), shortened(params, str(sql))
            effect = Effect("sql", named, writes[-1].label(writes[-1].table), safe=True, detail=detail, pending=pending)
            try:
                with db.wrap_database_errors, self._recorder.doing(effect, lambda: unavailable(db)), guarded(db):
                    answer = original(cursor, sql, params, *rest)
                    if db.vendor == "sqlite" and cursor.description:
                        self._stepping.add(db)
                    return answer
            finally:
                self._stepping.discard(db)

        return _execute

    def _read(self, db: Any, sql: Any) -> Statement:
        return self._statements[db.vendor == "postgresql"].read(str(sql))

    def _select_for_update(self, original: Any) -> Any:
        def select_for_update(queryset: Any, *args: Any, **kwargs: Any) -> Any:
            # Where the database knows no such lock Django leaves it out, but in production it is there.
            if self._recorder.sink is not None:
                db = transaction.get_connection(queryset.db)
                self._locking.add(db)
                if not db.features.has_select_for_update:
                    self._lockless.add(db)
                    if self._recorder.rival is not None:
                        self._recorder.rival.uses(db, NO_ROW_LOCKS)
            return original(queryset, *args, **kwargs)

        return select_for_update

    # Transactions

    def _commit(self, original: Any) -> Any:
        def _commit(db: Any) -> None:
            with self._committing(db, lambda: db.connection.rollback()):
                original(db)

        return _commit

    def _rollback(self, original: Any) -> Any:
        def _rollback(db: Any) -> None:
            self._dirty.pop(db, None)
            original(db)

        return _rollback

    @contextmanager
    def _committing(self, db: Any, undo: Callable[[], Any]) -> Iterator[None]:
        """Report a commit; one that does not reach the database leaves nothing behind."""
        tables = list(self._dirty.get(db, ()))
        if not tables:
            yield
            return
        effect = Effect("sql", tables[0], "COMMIT", safe=True, detail=", ".join(tables))
        reached = False
        self._ending.add(db)
        with db.wrap_database_errors:
            try:
                with self._recorder.doing(effect, lambda: unavailable(db)):
                    reached = True
                    yield
                    self._dirty.pop(db, None)
            except BaseException:
                self._dirty.pop(db, None)
                if not reached:
                    with suppress(Exception):
                        undo()
                raise
            finally:
                self._ending.discard(db)

    def _savepoint_commit(self, original: Any) -> Any:
        def release(db: Any, sid: str) -> None:
            statement = db.ops.savepoint_commit_sql(sid)
            raw(db, statement) if sid.startswith(OURS) else original(db, sid)

        def _savepoint_commit(db: Any, sid: str) -> None:
            over = self._over.setdefault(db, set())
            if sid in over:
                over.discard(sid)
                return
            if not autocommitting(db):
                release(db, sid)
                return

            def undo() -> None:
                raw(db, db.ops.savepoint_rollback_sql(sid))
                raw(db, db.ops.savepoint_commit_sql(sid))

            begun = released = False
            try:
                with self._committing(db, undo):
                    begun = True
                    release(db, sid)
                    released = True
            except BaseException:
                # Django now rolls back to a savepoint that is gone, and would mark the test's transaction as broken.
                if released or not begun:
                    over.add(sid)
                raise

        return _savepoint_commit

    def _savepoint_rollback(self, original: Any) -> Any:
        def _savepoint_rollback(db: Any, sid: str) -> None:
            if sid in self._over.get(db, ()):
                return
            if autocommitting(db):
                self._dirty.pop(db, None)
            if sid.startswith(OURS):
                raw(db, db.ops.savepoint_rollback_sql(sid))
            else:
                original(db, sid)

        return _savepoint_rollback

    def _enter(self, original: Any) -> Any:
        def __enter__(block: Any) -> None:
            db = transaction.get_connection(block.using)
            if of_the_test(block):
                self._hooks.see_captures()
            if self._recorder.sink is None or of_the_test(block):
                return original(block)  # type: ignore[no-any-return]
            depth, outermost = len(db.atomic_blocks), autocommitting(db)
            original(block)
            if self._depth(db) is None:
                self._begun[db] = depth, block
                self._locking.discard(db)
                self._lockless.discard(db)
            if outermost and db.savepoint_ids and db.savepoint_ids[-1] is None and not db.needs_rollback:
                self._savepoints += 1
                sid = f"{OURS}{self._savepoints}"
                try:
                    raw(db, db.ops.savepoint_create_sql(sid))
                except BaseException:
                    db.atomic_blocks.pop()
                    db.savepoint_ids.pop()
                    raise
                db.savepoint_ids[-1] = sid
            return None

        return __enter__

    def _mark(self, original: Any) -> Any:
        @contextmanager
        def mark_for_rollback_on_error(using: str | None = None) -> Iterator[None]:
            if self._recorder.sink is not None and autocommitting(transaction.get_connection(using)):
                yield
            else:
                with original(using=using):
                    yield

        return mark_for_rollback_on_error
