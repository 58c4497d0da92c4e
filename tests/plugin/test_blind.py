"""What no probe could look at is told, with the reason; it decides no verdict and hides no error."""

import pytest

DATABASE = '''
import sqlite3

import pytest
from celery import Celery


@pytest.fixture
def app():
    return Celery("shop", broker="memory://localhost/", set_as_current=False)


@pytest.fixture
def database():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript("CREATE TABLE payments (id INTEGER PRIMARY KEY, cents); CREATE TABLE orders (id, status)")
    yield connection
    connection.close()


@pytest.fixture
def pay(app, database):
    @app.task(name="shop.pay", shared=False)
    def pay(order):
        database.execute("INSERT INTO payments (cents) VALUES (500)")
        database.execute("INSERT INTO orders VALUES (7, 'paid')")

    return pay


def hidden(*places):
    def authorizer(action, table, column, *_):
        return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_READ and (table, column) in places else sqlite3.SQLITE_OK

    return authorizer
'''


@pytest.fixture
def told(suite):
    """Run one test of the database; return its outcome and its warnings."""

    def run(source):
        suite.module(test_shop=f"{DATABASE}\n\n{source}")
        result = suite.run()
        counts = {name: count for name, count in result.parseoutcomes().items() if name != "warnings"}
        text = result.stdout.str()
        lines = [line.partition("JobsWarning: ")[2] for line in text.splitlines() if "JobsWarning: " in line]
        failure = next((line for line in text.splitlines() if line.startswith("E   AssertionError")), "")
        return counts, failure.removeprefix("E   AssertionError: "), list(dict.fromkeys(lines)), text

    return run


def test_a_table_without_readable_columns(told):
    """It is named, with what the database says; the other table is compared."""
    counts, failure, warned, text = told("""
@pytest.mark.idempotent(ignore=["orders"])
def test_pay(jobs, database, pay):
    database.set_authorizer(hidden(("payments", "id"), ("payments", "cents")))
    jobs.run(pay, 7)
""")
    assert (counts, failure) == ({"passed": 1}, ""), text
    assert warned == [
        "in test_pay, dbapi was not compared: table payments could not be read: access to payments.id is prohibited"
    ]


def test_a_column_that_cannot_be_read(told):
    """The other columns of its table are compared, and the failure says what was not."""
    counts, failure, _, text = told("""
@pytest.mark.idempotent(ignore=["orders"])
def test_pay(jobs, database, pay):
    database.set_authorizer(hidden(("payments", "cents")))
    jobs.run(pay, 7)
""")
    assert (counts, failure) == ({"failed": 1}, "pay is not idempotent at twice: payments 1 -> 2 rows"), text
    assert "dbapi was not compared: payments.cents could not be read: access to payments.cents is prohibited" in text


def test_a_connection_that_is_closed(told):
    """What it led to is not compared, and that is told."""
    counts, failure, warned, text = told("""
@pytest.mark.idempotent
def test_pay(jobs, database, pay):
    jobs.watch(database, name="shop")
    jobs.run(pay, 7)
    jobs.redeliver(jobs.all.one)
    database.close()
""")
    assert (counts, failure) == ({"passed": 1}, ""), text
    assert warned == [
        "in test_pay, dbapi was not compared: orders, payments could not be read: Cannot operate on a closed database.",
        "in test_pay, watch was not compared: shop could not be read: ProgrammingError: Cannot operate on a closed database.",
    ]


def test_a_look_that_raises(told):
    """A callable of the test's own that fails is told with its error."""
    counts, failure, warned, text = told("""
@pytest.mark.idempotent
def test_pay(jobs, app):
    jobs.watch(lambda: 1 / 0, name="ratio")

    @app.task(shared=False)
    def add(a, b):
        return a + b

    jobs.run(add, 2, 3)
""")
    assert (counts, failure) == ({"passed": 1}, ""), text
    assert warned[:1] == ["in test_pay, watch was not compared: ratio could not be read: ZeroDivisionError: division by zero"]


def test_a_probe_that_raises(told):
    """Not even a defect of ours decides a verdict."""
    counts, failure, warned, text = told("""
from pytest_jobs.probes.dbapi import DBAPIProbe

@pytest.fixture(autouse=True)
def defect(monkeypatch):
    def read(probe, wanted):
        raise KeyError("payments")

    monkeypatch.setattr(DBAPIProbe, "read", read)

@pytest.mark.idempotent
def test_pay(jobs, database, pay):
    jobs.run(pay, 7)
""")
    assert (counts, failure) == ({"passed": 1}, ""), text
    assert "in test_pay, dbapi was not compared: it raised KeyError('payments')" in warned


def test_a_library_that_cannot_be_looked_at(told):
    """A test has put a stand-in where the library itself needs its class: only that library is not compared."""
    counts, failure, _, text = told("""
from unittest.mock import Mock
import sqlalchemy.engine

@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr("sqlalchemy.engine.Engine", Mock())

@pytest.mark.idempotent
def test_pay(jobs, database, pay):
    jobs.run(pay, 7)
""")
    assert counts == {"failed": 1}, text
    assert failure.startswith("pay is not idempotent at twice: "), failure
    assert (
        "in test_pay, sqlalchemy was not compared: its library cannot be looked at: "
        "TypeError('issubclass() arg 2 must be a class, a tuple of classes, or a union')"
    ) in text


def test_an_explicit_check_tells_too(told):
    """`jobs.check_idempotent` warns of what it could not compare."""
    counts, failure, warned, text = told("""
def test_pay(jobs, database, pay):
    database.set_authorizer(hidden(("payments", "id"), ("payments", "cents"), ("orders", "id"), ("orders", "status")))
    jobs.check_idempotent(pay, 7)
""")
    assert (counts, failure) == ({"passed": 1}, ""), text
    assert warned == [
        "in jobs.check_idempotent(shop.pay), dbapi was not compared: table orders could not be read: "
        "access to orders.id is prohibited",
        "in jobs.check_idempotent(shop.pay), dbapi was not compared: table payments could not be read: "
        "access to payments.id is prohibited",
    ]
