"""What waits for a commit in Django: its hooks, and jobs that should have waited."""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Any
from weakref import WeakKeyDictionary

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from pytest_jobs.probes.base import Patches, Recorder

__all__ = ["OURS", "Blocks", "Hooks", "autocommitting", "guarded", "of_the_test", "own_blocks", "raw", "suspended", "unavailable", "unwind"]

ABORTING = frozenset({"postgresql"})
OURS = "jobs_"
UNAVAILABLE: Mapping[str, tuple[Any, ...]] = MappingProxyType({
    "sqlite": ("database is locked",),
    "mysql": (1205, "Lock wait timeout exceeded; try restarting transaction"),
})


def of_the_test(block: Any) -> bool:
    """Whether a block was opened by `TestCase`, or by pytest-django's `db`."""
    return bool(getattr(block, "_from_testcase", False))


def own_blocks(db: Any) -> list[Any]:
    """Return the open blocks that are not the test framework's, outermost first."""
    return [block for block in db.atomic_blocks if not of_the_test(block)]


def autocommitting(db: Any) -> bool:
    """Whether only the test's transaction is open: in production every statement would commit by itself."""
    return bool(db.atomic_blocks) and not own_blocks(db)


class Blocks:
    """Owns what was written in each outermost block that is not the test framework's."""

    def __init__(self, patches: Patches) -> None:
        self._wrote: WeakKeyDictionary[Any, dict[str, None]] = WeakKeyDictionary()
        patches.replace(transaction.Atomic, "__exit__", self._exit)

    def wrote(self, db: Any, tables: Mapping[str, None]) -> None:
        """Note what is written; what is written outside of a block waits for nothing."""
        if own_blocks(db):
            self._wrote.setdefault(db, {}).update(tables)

    def open(self) -> list[Mapping[str, None]]:
        """Return the tables of each open block of this thread; they grow with what is written until it ends."""
        open_ones = [db for db in connections.all(initialized_only=True) if own_blocks(db)]
        return [self._wrote.setdefault(db, {}) for db in open_ones]

    def forget(self) -> None:
        """Begin anew, when the process that held the blocks has died."""
        self._wrote.clear()

    def _exit(self, original: Any) -> Any:
        def __exit__(block: Any, *error: Any) -> None:
            db = transaction.get_connection(block.using)
            try:
                original(block, *error)
            finally:
                if not own_blocks(db):
                    self._wrote.pop(db, None)

        return __exit__


class Hooks:
    """Owns `on_commit` in jobs inside a test's transaction: hooks run at the job's own commits, as in production.

    While the test captures hooks (`captureOnCommitCallbacks`) they are left to it.
    """

    def __init__(self, recorder: Recorder, patches: Patches) -> None:
        self._recorder = recorder
        self._patches = patches
        self._captures = 0
        self._seen = False
        patches.replace(BaseDatabaseWrapper, "on_commit", self._on_commit)
        patches.replace(transaction.Atomic, "__exit__", self._exit)
        self.see_captures()

    def see_captures(self) -> None:
        """Learn of captures from now on; Django's test module may come later than we do."""
        module = sys.modules.get("django.test.testcases")
        if module is not None and not self._seen:
            self._seen = True
            self._patches.replace(module.TestCase, "captureOnCommitCallbacks", self._capture)

    def _capture(self, original: Callable[..., Any]) -> Any:
        @contextmanager
        def capture(*args: Any, **kwargs: Any) -> Iterator[Any]:
            self._captures += 1
            try:
                with original(*args, **kwargs) as callbacks:
                    yield callbacks
            finally:
                self._captures -= 1

        return staticmethod(capture)

    @property
    def _ours(self) -> bool:
        return self._recorder.sink is not None and not self._captures

    def _on_commit(self, original: Any) -> Any:
        def on_commit(db: Any, func: Any, robust: bool = False) -> None:
            if self._ours and autocommitting(db) and callable(func):
                _call(func, robust)
            else:
                original(db, func, robust)

        return on_commit

    def _exit(self, original: Any) -> Any:
        def __exit__(block: Any, *error: Any) -> None:
            db = transaction.get_connection(block.using)
            outermost = self._ours and own_blocks(db) == [block] and len(db.atomic_blocks) > 1
            sid = db.savepoint_ids[-1] if outermost and db.savepoint_ids else None
            original(block, *error)
            if sid is None:
                return
            due = [hook for hook in db.run_on_commit if sid in hook[0]]
            db.run_on_commit = [hook for hook in db.run_on_commit if sid not in hook[0]]
            for _, func, robust in due:
                _call(func, robust)

        return __exit__


def _call(func: Callable[[], Any], robust: bool) -> None:
    """Run a hook as Django does."""
    if not robust:
        func()
        return
    try:
        func()
    except Exception:  # a robust hook's error is logged, which is what Django does
        name = getattr(func, "__qualname__", repr(func))
        logging.getLogger("django.db.backends.base").exception("Error calling %s in on_commit()", name)


def raw(db: Any, statement: str) -> None:
    """Run a statement past Django, so that no test counts it among its queries."""
    cursor = db.connection.cursor()
    try:
        cursor.execute(statement)
    finally:
        cursor.close()


@contextmanager
def suspended(db: Any, depth: int) -> Iterator[None]:
    """End the blocks above a depth, in which nothing was written, and begin them again."""
    kept = list(db.atomic_blocks), list(db.savepoint_ids), db.run_on_commit, db.needs_rollback
    unwind(db, depth, close=False)
    try:
        yield
    finally:
        db.ensure_connection()
        if depth == 0:
            db.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)
        for sid in kept[1][len(db.savepoint_ids) :]:
            if sid is not None:
                raw(db, db.ops.savepoint_create_sql(sid))
        db.in_atomic_block = True
        db.atomic_blocks, db.savepoint_ids, db.run_on_commit, db.needs_rollback = kept


def unwind(db: Any, depth: int, *, close: bool = True) -> None:
    """Leave the blocks above a depth, as a rollback does when the process that held them has died."""
    if depth == 0:
        with suppress(Exception):
            db.connection.rollback()
        db.in_atomic_block = db.needs_rollback = db.closed_in_transaction = False
        db.savepoint_ids, db.atomic_blocks, db.run_on_commit = [], [], []
        with suppress(Exception):
            db.set_autocommit(True)
        if close:
            db.close()
        return
    first = depth - (len(db.atomic_blocks) - len(db.savepoint_ids))
    gone = set(db.savepoint_ids[first:])
    sid = db.savepoint_ids[first]
    del db.atomic_blocks[depth:], db.savepoint_ids[first:]
    db.needs_rollback = False
    db.run_on_commit = [each for each in db.run_on_commit if not gone & each[0]]
    if sid is not None:
        raw(db, db.ops.savepoint_rollback_sql(sid))
        raw(db, db.ops.savepoint_commit_sql(sid))


@contextmanager
def guarded(db: Any) -> Iterator[None]:
    """Keep a failing statement from aborting the test's transaction, on databases where it would."""
    if db.vendor not in ABORTING or not autocommitting(db):
        yield
        return
    raw(db, f"SAVEPOINT {OURS}statement")
    try:
        yield
    except BaseException:
        raw(db, f"ROLLBACK TO SAVEPOINT {OURS}statement")
        raw(db, f"RELEASE SAVEPOINT {OURS}statement")
        raise
    raw(db, f"RELEASE SAVEPOINT {OURS}statement")


def unavailable(db: Any) -> BaseException:
    """Make the error of a database that does not answer."""
    kind = getattr(db.Database, "OperationalError", db.Database.Error)
    error: BaseException = kind(*UNAVAILABLE.get(db.vendor, ("the database is not available",)))
    return error
