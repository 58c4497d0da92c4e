"""What `jobs.watch` takes, what it calls it, and what it reads."""

import asyncio
import functools
import sqlite3
import sys
from collections import deque
from types import SimpleNamespace
from unittest import mock

import fakeredis
import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from pytest_jobs import UsageError
from pytest_jobs.probes.base import Recorder
from pytest_jobs.probes.watch import watched
from pytest_jobs.world import Rows

NOTHING = frozenset()
ROWS = Rows(("id",), ({"id": 7, "status": "paid"},), True)


def seen(source, name=None):
    """Return what is read of a source, that the caller watches."""
    probe = watched(source, name=name, caller=sys._getframe(1))
    probe.install(Recorder())
    try:
        state, unreadable = probe.read(NOTHING)
    finally:
        probe.remove()
    assert unreadable == ()
    return dict(state)


def test_plain_values():
    """They are called as the caller calls them, or as told, and read as they are then."""
    orders, paid, line = {7: "paid"}, {7}, deque(["a"])
    assert seen(orders) == {"orders": {7: "paid"}}
    assert seen(paid) == {"paid": {7}}
    assert seen(line) == {"line": ["a"]}
    assert seen(orders, "ledger") == {"ledger": {7: "paid"}}
    shop = SimpleNamespace(charged=[7])
    assert seen(shop.charged) == {"charged": [7]}
    assert seen([7]) == {"list": [7]}


def test_a_copy_is_kept():
    """What is read does not change with what is watched."""
    orders = [{"id": 7}]
    before = seen(orders)
    orders[0]["id"] = 8
    assert before == {"orders": [{"id": 7}]}


def test_callables():
    """Each is asked when the world is read; a coroutine function as well."""
    calls = []

    def unpaid():
        calls.append(1)
        return len(calls)

    async def later():
        await asyncio.sleep(0)
        return "later"

    probe = watched(unpaid, name=None, caller=None)
    assert [probe.read(NOTHING)[0] for _ in range(2)] == [{"unpaid": 1}, {"unpaid": 2}]
    assert seen(later) == {"later": "later"}
    assert seen(functools.partial(max, 2, 3)) == {"max": 3}
    total = lambda: 5  # noqa: E731 - the name is what is tested
    assert seen(total) == {"total": 5}
    assert seen(lambda: 6) == {"lambda": 6}


def test_mocks():
    """Their calls are what is compared."""
    gateway = mock.Mock(name="gateway")
    gateway.charge(7, cents=500)
    (found,) = seen(gateway).values()
    assert list(seen(gateway)) == ["gateway"]
    assert "charge" in repr(found) and "500" in repr(found)


def test_paths(tmp_path):
    """A folder with what is in it, a file, and one that is not there yet."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.txt").write_text("7")
    assert list(seen(tmp_path / "out").values())[-1:] == ["7"]
    assert "7" in seen(tmp_path / "out" / "a.txt").values()
    assert seen(tmp_path / "none") == {}


@pytest.fixture
def file(tmp_path):
    """A SQLite file with one row."""
    connection = sqlite3.connect(tmp_path / "shop.db", isolation_level=None)
    connection.executescript("CREATE TABLE orders (id INTEGER PRIMARY KEY, status); INSERT INTO orders VALUES (7, 'paid')")
    yield tmp_path / "shop.db"
    connection.close()


@pytest.mark.parametrize("name", [None, "shop"])
def test_databases(file, name):
    """A file, a connection, an engine, a session: every table, under the name that was given."""
    subject = "orders" if name is None else f"{name}.orders"
    connection = sqlite3.connect(file)
    assert seen(connection, name) == {subject: ROWS}
    connection.close()
    assert list(seen(file, name).values()) == [ROWS]
    engine = sa.create_engine(f"sqlite:///{file}")
    for source in (engine, orm.sessionmaker(engine), orm.Session(engine)):
        assert seen(source, name) == {subject: ROWS}
    engine.dispose()


def test_redis_clients():
    """Every key of the database, of a client with asyncio as well."""
    server = fakeredis.FakeServer()
    with fakeredis.FakeRedis(server=server) as client:
        client.set("paid:7", 500)
        assert seen(client) == {"redis:paid:7": "500"}
        assert seen(fakeredis.FakeAsyncRedis(server=server), "store") == {"store:paid:7": "500"}


def test_a_look_that_fails_is_told():
    """With what it was and why."""
    probe = watched(lambda: 1 / 0, name="ratio", caller=None)
    probe.install(Recorder())
    state, (unreadable,) = probe.read(NOTHING)
    assert (state, unreadable.probe) == ({}, "watch")
    assert unreadable.reason == "ratio could not be read: ZeroDivisionError: division by zero"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (5, "jobs.watch was given 5, int; allowed are a callable without arguments, "),
        ("out.txt", r"jobs.watch was given the text 'out.txt' \(for a file, give pathlib.Path\('out.txt'\)\); allowed are "),
        (dict, "jobs.watch was given the class dict; allowed are "),
        (None, "jobs.watch was given None, NoneType; allowed are "),
        (lambda order: order, "jobs.watch was given .*, which cannot be called: missing a required argument: 'order'"),
    ],
)
def test_misuse(source, said):
    """One sentence: what was given, what is allowed."""
    with pytest.raises(UsageError, match=f"^{said}"):
        watched(source, name=None, caller=None)


@pytest.mark.parametrize("name", ["", 5, b"paid"])
def test_misuse_of_names(name):
    """A name is a text."""
    with pytest.raises(UsageError, match=r"^jobs\.watch was given name=.*; allowed is a text that is not empty$"):
        watched([], name=name, caller=None)
