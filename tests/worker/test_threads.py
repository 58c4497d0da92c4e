"""Shared state that breaks in the threads of one worker, and its repaired twins."""

import itertools
import sqlite3
import threading
import time
from contextlib import closing

import pytest
from celery import Celery

from pytest_jobs import UsageError, in_process_worker

app = Celery("threads", broker="memory://localhost/", backend="cache+memory://", set_as_current=False)
stock = {}
guard = threading.Lock()
first, second = threading.Lock(), threading.Lock()
own = threading.local()


class Client:
    """Stand for a client that keeps what it is about."""

    customer = ""


client = Client()


@app.task(name="threads.take", shared=False)
def take():
    """Read, then write, in two steps."""
    left = stock["left"]
    stock["left"] = left - 1


@app.task(name="threads.take_guarded", shared=False)
def take_guarded():
    """Read and write under a lock."""
    with guard:
        left = stock["left"]
        stock["left"] = left - 1


@app.task(name="threads.greet", shared=False)
def greet(name):
    """Keep the customer where all threads see it."""
    client.customer = name
    text = "hello"
    return f"{text} {client.customer}"


@app.task(name="threads.greet_own", shared=False)
def greet_own(name):
    """Keep the customer where this thread sees it."""
    own.customer = name
    text = "hello"
    return f"{text} {own.customer}"


@app.task(name="threads.last", shared=False)
def last(name):
    """Let the last writer win, as one after the other too."""
    stock["last"] = name


@app.task(name="threads.crossed", bind=True, shared=False)
def crossed(self, turn):
    """Take two locks, half of the jobs the other way round."""
    one, other = (first, second) if turn % 2 else (second, first)
    with one:
        text = "both"
        with other:
            return text


@app.task(name="threads.walk", shared=False)
def walk(name):
    """Walk over a dictionary that others change."""
    stock[name] = name
    for key in stock:
        assert key
    del stock[name]


@app.task(name="threads.slow", shared=False)
def slow():
    """Wait for a minute."""
    time.sleep(60)


@app.task(name="threads.numbered", shared=False)
def numbered():
    """Give another number each time."""
    return next(counter)


counter = itertools.count()


@pytest.fixture
def world():
    """An open worker that watches the stock; lines of this file are project code."""
    stock.clear()
    stock["left"] = 100
    with in_process_worker(app) as jobs:
        jobs.watch(stock)
        yield jobs


def test_a_lost_update_is_found(world):
    """Ten threads read the same number, so most of what they take is not taken."""
    with pytest.raises(AssertionError) as error:
        world.check_threads(take)
    assert str(error.value).splitlines() == [
        "take breaks in 10 threads: stock.left 90 -> 99",
        "",
        "           one by one    in threads",
        " stock     1 entry       1 entry",
        "   left    90            99",
        "",
        "Found in interleaving 1 of 12, the same in every run: the threads change between two lines of",
        "project code. They share modules, classes and objects; what one sets, another one reads.",
        "Fix:     https://pytest-jobs.readthedocs.io/failures#threads",
    ]
    assert stock == {"left": 100}
    assert list(world.all) == []


def test_a_lock_repairs_it(world):
    """Threads that wait for a lock are passed over until it is free."""
    world.check_threads(take_guarded)
    assert not guard.locked()


def test_what_one_thread_sets_another_one_reads(world):
    """An iterator gives each job another argument, and the wrong customer is greeted."""
    with pytest.raises(AssertionError, match=r"^greet breaks in 3 threads: .*hello ann"):
        world.check_threads(greet, iter(["ann", "bob", "cleo"]), threads=3)


def test_thread_local_state_repairs_it(world):
    """What belongs to a thread is not shared."""
    world.check_threads(greet_own, iter(["ann", "bob", "cleo"]), threads=3)


def test_another_order_is_no_difference(world):
    """What the jobs one after the other could leave as well is not blamed on threads."""
    world.check_threads(last, itertools.count())


def test_an_error_in_one_thread_is_found(world):
    """A dictionary changes under the loop that walks over it."""
    with pytest.raises(AssertionError, match=r"^walk breaks in 10 threads: [^§]*RuntimeErr"):
        world.check_threads(walk, map(str, itertools.count()))


def test_a_deadlock_is_found(world):
    """Two locks in two orders: the threads wait for each other, are named, and let go."""
    with pytest.raises(AssertionError) as error:
        world.check_threads(crossed, itertools.count(), threads=2)
    assert str(error.value).splitlines()[0] == "crossed comes to no end in 2 threads: they wait for each other"
    assert "worker/test_threads.py:" in str(error.value)
    assert "2 threads" in str(error.value).splitlines()[2]
    assert not first.locked()
    assert not second.locked()
    assert [thread for thread in threading.enumerate() if thread.name.startswith("jobs-thread")] == []


def test_threads_sleep_side_by_side(world):
    """A minute in each of ten threads is a minute, and none of it is left on the clock."""
    seen = []
    original = world._session.world
    world._session.world = lambda *wanted: seen.append(world.clock.elapsed.total_seconds()) or original(*wanted)
    world.check_threads(slow)
    assert seen[:3] == [600, 600, 600]  # the whole world is read in two parts
    assert set(seen[3:]) == {60}
    assert world.clock.elapsed.total_seconds() == 0


def test_what_varies_by_itself_is_said(world):
    """A task that never gives the same twice proves nothing about threads."""
    with pytest.raises(AssertionError, match=r"^two runs of numbered differ: .*, so nothing was compared"):
        world.check_threads(numbered)


def test_two_threads_on_one_database(tmp_path):
    """A balance read and written in two statements loses updates; one statement does not."""
    path = tmp_path / "shop.db"

    def execute(*statements):
        connection = sqlite3.connect(path)
        try:
            rows = [connection.execute(statement).fetchall() for statement in statements]
            connection.commit()
        finally:
            connection.close()
        return rows

    execute("CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER)", "INSERT INTO account VALUES (1, 0)")

    @app.task(name="threads.pay", shared=False)
    def pay():
        ((balance,),) = execute("SELECT balance FROM account WHERE id = 1")[0]
        execute(f"UPDATE account SET balance = {balance + 5} WHERE id = 1")

    @app.task(name="threads.pay_at_once", shared=False)
    def pay_at_once():
        execute("UPDATE account SET balance = balance + 5 WHERE id = 1")

    with in_process_worker(app) as jobs:
        with pytest.raises(AssertionError, match=r"^pay breaks in 4 threads: account.balance 20 -> 5"):
            jobs.check_threads(pay, threads=4)
        jobs.check_threads(pay_at_once, threads=4)
    assert execute("SELECT balance FROM account") == [[(0,)]]


def test_what_is_written_only_in_threads(tmp_path):
    """It is compared with what lay there before."""
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript("CREATE TABLE paid (id); CREATE TABLE problems (number); INSERT INTO problems VALUES (7)")

    @app.task(name="threads.wary", shared=False)
    def wary():
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            before = connection.execute("SELECT count(*) FROM paid").fetchall()
            after = connection.execute("SELECT count(*) FROM paid").fetchall()
            connection.execute("INSERT INTO paid VALUES (1)")
            if before != after:
                connection.execute("UPDATE problems SET number = number + 1")

    with in_process_worker(app) as jobs, pytest.raises(AssertionError, match=r"^wary breaks in 4 threads: problems.number 7 -> "):
        jobs.check_threads(wary, threads=4)


def test_misuse(world):
    """Each misuse is one sentence."""
    with pytest.raises(UsageError, match=r"jobs.check_threads was given threads=1; allowed is a whole number from 2"):
        world.check_threads(take, threads=1)
    with pytest.raises(UsageError, match=r"jobs.check_threads was given 'nobody'; allowed is a task or its registered name"):
        world.check_threads("nobody")
    with pytest.raises(UsageError, match=r"jobs.check_threads was given an iterator with fewer than 10 values"):
        world.check_threads(greet, iter(["ann"]))
    with pytest.raises(UsageError, match=r"jobs.check_threads cannot run while jobs.crash\(threads.take\) is armed"):
        world.crash(take)
        world.check_threads(take)
    world.run(take)
