"""What the probe of `sqlite3`, `psycopg` and `pymysql` connections reports and reads."""

import asyncio
import sqlite3
import sys

import psycopg
import pymysql
import pytest
from sqlalchemy.engine import make_url

from pytest_jobs.probes.base import Recorder
from pytest_jobs.probes.dbapi import DBAPIProbe

NOTHING = frozenset()
DRIVERS = {"sqlite": sqlite3, "postgresql": psycopg, "mariadb": pymysql}


class Killed(BaseException):
    """As a kill looks to the code it strikes."""


class Sink:
    """A worker that strikes at the point with a number, counted from 1."""

    def __init__(self, at=0, error=None):
        self.at = at
        self.error = error
        self.points = []
        self.effects = []

    def before(self, effect, error):
        self._stand(f"before {effect.label}", error)

    def after(self, effect, error):
        self.effects.append(effect)
        self._stand(f"after {effect.label}", error)

    def _stand(self, point, error):
        self.points.append(point)
        if len(self.points) == self.at:
            raise self.error or error()


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def probe(recorder):
    probe = DBAPIProbe()
    probe.install(recorder)
    yield probe
    recorder.sink = None
    probe.remove()


@pytest.fixture
def opening(tmp_path, server):
    """Return what opens a connection to a database of a kind; close them all at the end."""
    opened = []

    def open_one(kind, autocommit=False):
        if kind == "sqlite":
            connection = sqlite3.connect(tmp_path / "shop.db", **({"isolation_level": None} if autocommit else {}))
        else:
            url = make_url(server(kind))
            given = {"host": url.host, "user": url.username, "autocommit": autocommit}
            if kind == "postgresql":
                connection = psycopg.connect(dbname=url.database, options=url.query["options"], **given)
            else:
                connection = pymysql.connect(
                    database=url.database, init_command=url.query["init_command"], read_timeout=9, **given
                )
        opened.append(connection)
        return connection

    yield open_one
    for connection in opened:
        if kind_of(connection) == "mariadb" and not connection.open:
            continue
        connection.close()


def kind_of(connection):
    return next(kind for kind, driver in DRIVERS.items() if type(connection).__module__.startswith(driver.__name__))


@pytest.fixture(params=DRIVERS)
def connection(request, probe, opening):
    """A connection to a database with an empty table `payments`."""
    connection = opening(request.param)
    cursor = connection.cursor()
    cursor.execute("DROP TABLE IF EXISTS payments")
    cursor.execute("CREATE TABLE payments (id INTEGER PRIMARY KEY, amount INTEGER)")
    connection.commit()
    return connection


def insert(connection, amount):
    connection.cursor().execute(f"INSERT INTO payments VALUES ({amount}, {amount})")


def pay(connection):
    insert(connection, 1)
    insert(connection, 2)
    connection.commit()


def run(recorder, task, *args, at=0, error=None):
    recorder.sink = sink = Sink(at, error)
    try:
        task(*args)
    finally:
        recorder.sink = None
    return sink


def amounts(probe):
    state, unreadable = probe.read(NOTHING)
    assert unreadable == ()
    return sorted(row["amount"] for row in state["payments"].rows)


def test_writes_and_the_commit_are_effects(recorder, probe, connection):
    """Each write waits for the commit, which is an effect too; rows count when they are committed."""
    seen = []

    def task():
        insert(connection, 1)
        seen.extend([amounts(probe), recorder.holding])
        connection.commit()
        seen.extend([amounts(probe), recorder.holding])

    sink = run(recorder, task)
    assert [(effect.label, effect.pending) for effect in sink.effects] == [("INSERT payments", True), ("COMMIT", False)]
    assert seen == [[], True, [1], False]
    assert all(effect.kind == "sql" and effect.safe for effect in sink.effects)


def test_nothing_is_read_when_nothing_was_written(recorder, probe, connection):
    """A task that only reads makes no effect, and looking costs no statement."""
    sink = run(recorder, lambda: connection.cursor().execute("SELECT * FROM payments"))
    connection.close()
    assert sink.points == []
    assert probe.read(NOTHING) == ({}, ())


@pytest.mark.parametrize("kind", DRIVERS)
def test_in_autocommit_mode_a_write_waits_for_nothing(recorder, probe, opening, kind):
    """In autocommit mode the statement is the commit, unless a transaction was begun by hand."""
    connection = opening(kind, autocommit=True)
    cursor = connection.cursor()
    cursor.execute("DROP TABLE IF EXISTS payments")
    cursor.execute("CREATE TABLE payments (id INTEGER PRIMARY KEY, amount INTEGER)")

    def task():
        insert(connection, 1)
        cursor.execute("BEGIN")
        insert(connection, 2)
        cursor.execute("COMMIT")

    sink = run(recorder, task)
    found = [(effect.label, effect.pending) for effect in sink.effects]
    assert found == [("INSERT payments", False), ("INSERT payments", True), ("COMMIT", False)]
    assert amounts(probe) == [1, 2]


def test_a_rollback_ends_the_wait(recorder, probe, connection):
    """What was rolled back is not there, nothing waits any more, and the next commit is no effect."""

    def task():
        insert(connection, 1)
        connection.rollback()
        assert not recorder.holding
        connection.commit()

    assert run(recorder, task).points == ["before INSERT payments", "after INSERT payments"]
    assert amounts(probe) == []


@pytest.mark.parametrize("at", range(1, 7))
def test_an_injected_error_is_the_drivers_own(recorder, probe, connection, at):
    """The driver's own error strikes at every point, and nothing is half-committed."""
    with pytest.raises(DRIVERS[kind_of(connection)].OperationalError):
        run(recorder, pay, connection, at=at)
    connection.rollback()
    assert amounts(probe) == ([1, 2] if at == 6 else [])


@pytest.mark.parametrize("at", range(1, 7))
def test_a_kill_leaves_what_the_server_would_keep(recorder, probe, connection, opening, at):
    """A killed task's transaction is gone, and its locks too."""
    with pytest.raises(Killed):
        run(recorder, pay, connection, at=at, error=Killed())
    probe.forget()
    assert amounts(probe) == ([1, 2] if at == 6 else [])
    other = opening(kind_of(connection))
    run(recorder, lambda: (insert(other, 3), other.commit()))
    assert amounts(probe)[-1] == 3


def test_what_a_killed_task_wrote_into_the_tests_work_is_told(recorder, probe, connection):
    """When test and task share a transaction, a kill cannot undo half of it: the test is told so."""
    insert(connection, 9)
    with pytest.raises(Killed):
        run(recorder, pay, connection, at=4, error=Killed())
    probe.forget()
    assert "transaction that the test began" in probe.read(NOTHING)[1][0].reason
    connection.rollback()


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
@pytest.mark.parametrize("statement", ["SELECT * FROM payments FOR UPDATE", "SELECT 1 FROM payments FOR SHARE"])
def test_locks_are_held_until_the_transaction_ends(recorder, probe, opening, kind, statement):
    """A row lock is held from its statement to the commit: nobody else could go on meanwhile."""
    connection = opening(kind)
    cursor = connection.cursor()
    cursor.execute("DROP TABLE IF EXISTS payments")
    cursor.execute("CREATE TABLE payments (id INTEGER PRIMARY KEY, amount INTEGER)")
    connection.commit()
    if kind == "mariadb":
        statement = statement.replace("FOR SHARE", "LOCK IN SHARE MODE")

    def task():
        cursor.execute(statement)
        assert recorder.holding
        connection.commit()
        assert not recorder.holding
        cursor.execute(statement)
        connection.rollback()
        assert not recorder.holding

    assert run(recorder, task).points == []


def test_a_begun_write_transaction_holds_the_database(recorder, probe, opening):
    """`BEGIN IMMEDIATE` locks a SQLite file before anything is written."""
    connection = opening("sqlite", autocommit=True)

    def task():
        connection.execute("BEGIN IMMEDIATE")
        assert recorder.holding
        connection.execute("ROLLBACK")
        assert not recorder.holding

    run(recorder, task)


def test_the_context_manager_of_sqlite3(recorder, probe, opening):
    """`with connection:` commits, and a commit that fails leaves nothing."""
    connection = opening("sqlite")
    connection.execute("CREATE TABLE payments (id INTEGER PRIMARY KEY, amount INTEGER)")

    def task():
        with connection:
            connection.execute("INSERT INTO payments VALUES (1, 1)")

    with pytest.raises(sqlite3.OperationalError, match="database is locked"):
        run(recorder, task, at=3)
    assert amounts(probe) == []
    assert run(recorder, task).points[-1] == "after COMMIT"
    assert amounts(probe) == [1]


def test_the_transaction_block_of_psycopg(recorder, probe, opening):
    """`with connection.transaction():` commits, and a commit that fails leaves nothing."""
    connection = opening("postgresql", autocommit=True)
    connection.execute("DROP TABLE IF EXISTS payments")
    connection.execute("CREATE TABLE payments (id INTEGER PRIMARY KEY, amount INTEGER)")

    def task():
        with connection.transaction():
            insert(connection, 1)

    with pytest.raises(psycopg.OperationalError):
        run(recorder, task, at=3)
    assert amounts(probe) == []
    assert [effect.label for effect in run(recorder, task).effects] == ["INSERT payments", "COMMIT"]
    assert amounts(probe) == [1]


def test_async_psycopg(recorder, probe, server):
    """An async connection is seen as a sync one is."""
    url = make_url(server("postgresql"))

    async def main():
        async with await psycopg.AsyncConnection.connect(
            host=url.host, user=url.username, dbname=url.database
        ) as connection:
            await connection.execute("DROP TABLE IF EXISTS payments")
            await connection.execute("CREATE TABLE payments (id INTEGER PRIMARY KEY, amount INTEGER)")
            await connection.commit()
            recorder.sink = sink = Sink()
            await connection.execute("INSERT INTO payments VALUES (1, 1)")
            await connection.commit()
            recorder.sink = None
            return sink

    sink = asyncio.run(main())
    assert [(effect.label, effect.pending) for effect in sink.effects] == [("INSERT payments", True), ("COMMIT", False)]
    assert amounts(probe) == [1]


def test_a_script_commits_as_it_goes(recorder, probe, opening):
    """`executescript` names the last table it writes to, and nothing waits for a commit."""
    connection = opening("sqlite")
    connection.execute("CREATE TABLE payments (id INTEGER PRIMARY KEY, amount INTEGER)")
    sink = run(recorder, lambda: connection.executescript("INSERT INTO payments VALUES (1, 1); SELECT 1"))
    assert [(effect.label, effect.pending) for effect in sink.effects] == [("INSERT payments", False)]
    assert amounts(probe) == [1]


def test_a_database_in_memory_is_what_its_connection_sees(recorder, probe):
    """Where there is one connection only, its own view counts."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE payments (id INTEGER PRIMARY KEY, amount INTEGER)")
    run(recorder, insert, connection, 1)
    assert amounts(probe) == [1]
    connection.close()


def test_a_closed_connection_is_told(recorder, probe):
    """A database in memory whose connection is closed cannot be read, and the test hears which and why."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE payments (id INTEGER PRIMARY KEY, amount INTEGER)")
    run(recorder, insert, connection, 1)
    connection.close()
    state, unreadable = probe.read(NOTHING)
    assert state == {}
    assert unreadable[0].probe == "dbapi"
    assert unreadable[0].reason == "payments could not be read: Cannot operate on a closed database."
    sqlite3.connect(":memory:").close()


def test_the_users_own_classes_stay(recorder, probe, tmp_path):
    """Connection and cursor classes of the user, and row factories, work as before."""

    class Mine(sqlite3.Connection):
        def charge(self):
            return self.execute("INSERT INTO payments VALUES (1, 1)")

    connection = sqlite3.connect(tmp_path / "shop.db", factory=Mine)
    connection.row_factory = sqlite3.Row
    connection.execute("CREATE TABLE payments (id INTEGER PRIMARY KEY, amount INTEGER)")
    assert run(recorder, connection.charge).effects[0].label == "INSERT payments"
    connection.commit()
    assert connection.execute("SELECT * FROM payments").fetchone()["amount"] == 1
    assert amounts(probe) == [1]
    connection.close()


def test_removal_leaves_the_drivers_as_they_were():
    """No hook stays behind."""

    def state():
        return (
            sqlite3.connect,
            sys.modules["sqlite3.dbapi2"].connect,
            dict(vars(psycopg.Cursor)),
            dict(vars(psycopg.Connection)),
            dict(vars(pymysql.cursors.Cursor)),
            dict(vars(pymysql.connections.Connection)),
        )

    before = state()
    probe = DBAPIProbe()
    probe.install(Recorder())
    assert state() != before
    probe.remove()
    assert state() == before
