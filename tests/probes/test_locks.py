"""What the probes know of locks: who would have to wait, and that nobody waits for long."""

import sqlite3

import psycopg
import pymysql
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from pytest_jobs.probes.base import Recorder
from pytest_jobs.probes.dbapi import DBAPIProbe
from pytest_jobs.probes.sqlalchemy import SQLAlchemyProbe


class Sink:
    """A worker that lets everything happen."""

    def before(self, effect, error):
        pass

    def after(self, effect, error):
        pass


@pytest.fixture
def recorder():
    recorder = Recorder()
    probes = [SQLAlchemyProbe(), DBAPIProbe()]
    for probe in probes:
        probe.install(recorder)
    yield recorder
    recorder.sink = None
    for probe in probes:
        probe.remove()


@pytest.fixture
def path(tmp_path):
    """A SQLite file with two rows."""
    path = tmp_path / "shop.db"
    connection = sqlite3.Connection(path)
    connection.executescript("CREATE TABLE orders (id INTEGER PRIMARY KEY); INSERT INTO orders VALUES (1), (2)")
    connection.close()
    return path


def test_an_open_cursor_of_sqlite3_locks(recorder, path):
    """While a job goes through the rows of a file, nobody can commit to it."""
    recorder.sink = Sink()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("INSERT INTO orders VALUES (3)")
    assert not recorder.locking
    rows = connection.execute("SELECT * FROM orders")
    assert recorder.locking
    rows.fetchall()
    assert not recorder.locking
    connection.close()


def test_an_open_cursor_of_an_engine_locks(recorder, path):
    """The same through SQLAlchemy."""
    engine = sa.create_engine(f"sqlite:///{path}")
    recorder.sink = Sink()
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM orders")
        assert recorder.locking
        assert len(rows.all()) == 2
        assert not recorder.locking
    engine.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_an_engines_connections_hurry_while_they_are_out(recorder, path, server, kind):
    """A pooled connection hardly waits for locks in a nested delivery, and waits again as before when it is back."""
    engine = sa.create_engine(f"sqlite:///{path}" if kind == "sqlite" else server(kind))
    ask, shortest = {
        "sqlite": ("PRAGMA busy_timeout", 50),
        "postgresql": ("SHOW lock_timeout", "50ms"),
        "mariadb": ("SELECT @@SESSION.innodb_lock_wait_timeout", 1),
    }[kind]

    def wait():
        with engine.connect() as connection:
            return connection.exec_driver_sql(ask).scalar()

    before = wait()
    recorder.sink = Sink()
    with recorder.nesting():
        assert wait() == shortest
    assert wait() == before != shortest
    engine.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_a_drivers_connections_hurry(recorder, path, server, kind):
    """A connection used directly hardly waits for locks in a nested delivery: its error comes at once."""
    if kind == "sqlite":
        connections = [sqlite3.connect(path, timeout=30) for _ in range(2)]
    else:
        url = make_url(server(kind))
        make, name = (psycopg.connect, "dbname") if kind == "postgresql" else (pymysql.connect, "database")
        connections = [make(host=url.host, user=url.username, **{name: url.database}) for _ in range(2)]
    first, second = (connection.cursor() for connection in connections)
    first.execute("DROP TABLE IF EXISTS orders")
    first.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    first.execute("INSERT INTO orders VALUES (1)")
    connections[0].commit()
    recorder.sink = Sink()
    first.execute("UPDATE orders SET id = 2")
    with recorder.nesting(), pytest.raises((sqlite3.OperationalError, psycopg.OperationalError, pymysql.OperationalError)):
        second.execute("UPDATE orders SET id = 3")
    connections[1].rollback()
    connections[0].commit()
    second.execute("UPDATE orders SET id = 3")
    if kind == "sqlite":
        assert second.execute("PRAGMA busy_timeout").fetchone() == (30_000,)
    for connection in connections:
        connection.close()
