"""A second delivery beside an open transaction of the first: in a thread of its own, waiting where it would wait."""

import sqlite3
import threading

import psycopg  # noqa: F401 - its C part refuses to be imported while time is frozen
import pytest
import sqlalchemy as sa
from celery import Celery
from sqlalchemy.orm import Session

from pytest_jobs import in_process_worker
from tests.probes.synchronized_library import synchronized

MOST = 50
app = Celery("shop", broker="memory://localhost/", backend="cache+memory://", set_as_current=False)
charged = []
place = {}
memory_lock = threading.Lock()
many_locks = [threading.Lock(), threading.Lock()]


def pay(order):
    """What must happen once."""
    charged.append(order)


def charge(order, lock=""):
    """Look, charge and write in one transaction, which writes something first."""
    with place["engine"].begin() as c:
        c.execute(sa.text("INSERT INTO audit VALUES (:order)"), {"order": order})
        paid = c.execute(sa.text(f"SELECT paid FROM orders WHERE id = :order{lock}"), {"order": order}).scalar()
        if not paid:
            pay(order)
            c.execute(sa.text("UPDATE orders SET paid = 1 WHERE id = :order"), {"order": order})


@app.task(shared=False, acks_late=True)
def careless(order):
    """Two of these read before either has written."""
    charge(order)


@app.task(shared=False, acks_late=True)
def careful(order):
    """The second waits for the row of the first."""
    charge(order, " FOR UPDATE")


@app.task(shared=False, acks_late=True)
def early(order):
    """Reads before SQLite locks."""
    with place["engine"].begin() as c:
        paid = c.execute(sa.text("SELECT paid FROM orders WHERE id = :order"), {"order": order}).scalar()
        if not paid:
            pay(order)
            c.execute(sa.text("UPDATE orders SET paid = 1 WHERE id = :order"), {"order": order})


@app.task(shared=False, acks_late=True)
def immediate(order):
    """Locks the file before it reads."""
    connection = sqlite3.connect(place["path"], isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    ((paid,),) = connection.execute("SELECT paid FROM orders WHERE id = ?", (order,)).fetchall()
    if not paid:
        pay(order)
        connection.execute("UPDATE orders SET paid = 1 WHERE id = ?", (order,))
    connection.execute("COMMIT")
    connection.close()


@app.task(shared=False, acks_late=True)
def for_update(order):
    """Asks for a row lock, which SQLite's dialect leaves out."""
    with Session(place["engine"]) as session, session.begin():
        orders = sa.table("orders", sa.column("id"), sa.column("paid"))
        query = sa.select(orders.c.paid).where(orders.c.id == order).with_for_update()
        if not session.scalar(query):
            pay(order)
            session.execute(sa.update(orders).where(orders.c.id == order).values(paid=1))


@app.task(shared=False, acks_late=True)
def in_memory(order):
    """Holds a lock of this process."""
    with memory_lock:
        if order not in charged:
            pay(order)


@app.task(shared=False, acks_late=True)
def in_steps(order):
    """Writes the same row in four transactions."""
    for _ in range(4):
        with place["engine"].begin() as c:
            c.execute(sa.text("UPDATE orders SET paid = paid + 1 WHERE id = :order"), {"order": order})


@app.task(shared=False, acks_late=True)
def in_memory_steps(order):
    """Takes a lock of this process twice."""
    with memory_lock:
        pay(order)
    with memory_lock:
        pay(order)


@app.task(shared=False, acks_late=True)
def in_memory_by_key(order):
    """Holds one of many locks."""
    with many_locks[order % 2]:
        if order not in charged:
            pay(order)


@app.task(shared=False, acks_late=True)
@synchronized
def in_a_library(order):
    """Holds a lock that only a library's code names."""
    if order not in charged:
        pay(order)


@app.task(shared=False, acks_late=True)
def pooled(order):
    """Gives its connection back while the second waits for a lock in memory."""
    with memory_lock:
        with place["engine"].begin() as c:
            c.execute(sa.text("UPDATE orders SET paid = paid + 1 WHERE id = :order"), {"order": order})
        pay(order)


def numbers():
    """Count in a closure."""
    number = 0

    def following(order):
        nonlocal number
        order = str(order)
        number += 1
        return number

    return following


following = numbers()


@app.task(shared=False, acks_late=True)
def numbered(order):
    """Take the next number."""
    charged.append(following(order))


@pytest.fixture
def world():
    """A world whose project is this file."""
    charged.clear()
    with in_process_worker(app, source=[__file__]) as jobs:
        yield jobs


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def kind(request):
    """Each family of databases."""
    return request.param


@pytest.fixture
def engine(request, kind, tmp_path):
    """An engine with one unpaid order."""
    place["path"] = tmp_path / "shop.db"
    url = f"sqlite:///{place['path']}" if kind == "sqlite" else request.getfixturevalue("server")(kind)
    place["engine"] = engine = sa.create_engine(url)
    with engine.begin() as c:
        for statement in ("DROP TABLE IF EXISTS orders", "DROP TABLE IF EXISTS audit", "CREATE TABLE audit (id INTEGER)",
                          "CREATE TABLE orders (id INTEGER PRIMARY KEY, paid INTEGER)", "INSERT INTO orders VALUES (7, 0)"):  # fmt: skip
            c.execute(sa.text(statement))
    yield engine
    engine.dispose()
    place.clear()


def overlaps(jobs, task):
    """Overlap at each point in turn; return how often it was charged, or why it was not tried, for each."""
    found = []
    for number in range(1, MOST):
        with jobs.fresh():
            charged.clear()
            try:
                job = jobs.deliver(task, 7, schedule=f"overlap@{number}")
            except AssertionError as error:
                reason = str(error).splitlines()[0].partition(" did not happen: ")[2]
                if "found nothing to do" in reason:
                    return found
                found.append(reason)
            else:
                assert [attempt.outcome for attempt in job.attempts] == ["succeeded", "succeeded"]
                found.append(len(charged))
    raise AssertionError(f"more than {MOST} points")


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"], indirect=True)
def test_two_that_read_before_either_has_written(world, engine):
    """The second reads what the first has not committed yet, and waits for its row only when it writes."""
    found = overlaps(world, careless)
    assert set(found) == {1, 2}
    assert found.count(2) >= 5


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"], indirect=True)
def test_one_that_waits_for_the_row(world, engine):
    """The repaired twin: it waits before it reads."""
    assert set(overlaps(world, careful)) == {1}


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_sqlite_lets_the_second_wait_for_the_file(world, engine):
    """After the first has written, the second reads the old state, and waits when it writes."""
    assert {2} < set(overlaps(world, early)) == {1, 2}
    assert set(overlaps(world, careless)) == {1}
    assert set(overlaps(world, immediate)) == {1}


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_a_row_lock_that_sqlite_does_not_know(world, engine):
    """Nobody is blamed for a lock that production has."""
    assert set(overlaps(world, for_update)) == {1, "could not be tried: SQLite knows no SELECT … FOR UPDATE"}


@pytest.mark.parametrize("task", [in_memory, in_memory_by_key, in_a_library], ids=lambda task: task.__name__)
def test_a_lock_of_this_process(world, task):
    """The second waits until the first lets it go."""
    found = overlaps(world, task)
    assert set(found) == {1}
    assert len(found) >= 3
    assert not any(lock.locked() for lock in (memory_lock, *many_locks))


def test_a_connection_that_went_back_to_its_pool(world, engine, kind):
    """The second may get it then: they do not share it."""
    assert set(overlaps(world, pooled)) == {2}


def test_both_want_again_what_they_have_let_go(world, engine, kind):
    """Neither waits for the other for ever: whoever waits lets the other one go on."""
    assert set(overlaps(world, in_steps)) == {0}


def test_a_lock_of_this_process_taken_twice(world):
    """The same with a lock in memory."""
    assert set(overlaps(world, in_memory_steps)) == {4}
    assert not memory_lock.locked()


def test_a_kill_while_the_second_waits(world, engine, kind):
    """Both die, as two children of a worker that is killed; what comes again finds everything rolled back."""
    if kind == "sqlite":
        task, at = early, 6
    else:
        task, at = careful, 9
    for later in (1, 3):
        charged.clear()
        with world.fresh():
            world.deliver(task, 7, schedule=f"overlap@{at}+crash@{at + later}")
            with engine.connect() as c:
                assert c.execute(sa.text("SELECT paid FROM orders")).scalar() == 1
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("jobs-thread")]


PROJECT = '''
import fcntl

import fakeredis
import pytest
import sqlalchemy as sa
from celery import Celery
from sqlalchemy.pool import StaticPool

app = Celery("shop", broker="memory://localhost/", backend="cache+memory://", set_as_current=False)
engine = sa.create_engine(URL, poolclass=POOL)
outer = engine.connect()
charged = []
client = fakeredis.FakeRedis()


@pytest.fixture(scope="module", autouse=True)
def closed():
    yield
    outer.close()
    engine.dispose()


@pytest.fixture(autouse=True)
def database():
    outer.execute(sa.text("DROP TABLE IF EXISTS orders"))
    outer.execute(sa.text("CREATE TABLE orders (id INTEGER PRIMARY KEY, paid INTEGER)"))
    outer.commit()
    charged.clear()
    client.flushall()


@app.task(shared=False, acks_late=True)
def charge(order):
    BODY


@pytest.mark.idempotent("overlap")
def test_charge(jobs):
    jobs.watch(charged)
    jobs.run(charge, 7)
'''
UPSERT = """with engine.begin() as c:
        c.execute(sa.text("INSERT OR IGNORE INTO orders VALUES (7, 0)"))
        c.execute(sa.text("UPDATE orders SET paid = 1"))"""
OUTER = """outer.execute(sa.text("INSERT OR IGNORE INTO orders VALUES (7, 0)"))
    outer.execute(sa.text("UPDATE orders SET paid = 1"))
    outer.commit()"""
LOCKED = """with client.lock("charge"LIFE):
        if order not in charged:
            charged.append(order)"""
IN_A_FILE = """with open(PATH, "w") as file:
        BEFORE
        fcntl.flock(file, fcntl.LOCK_EX)
        AFTER
        if not seen:
            charged.append(order)"""
LOOK = "seen = order in charged"
LONG = """with client.lock("charge", timeout=30):
        if order not in charged:
            client.incr("a")
            for _ in range(100):
                pass
            charged.append(order)"""
# As templates are: without a `__name__`.
EXECUTED = """names = {}
    exec(compile("def render(call): return call()", "<template>", "exec"), names)
    names["render"](lambda: order in charged or charged.append(order))"""
PROXY = """class Proxy:
        @property
        def __class__(self):
            raise RuntimeError("no context")
    user = Proxy()
    if order not in charged:
        charged.append(order)"""
INI = "[pytest]\naddopts = -p no:hypothesispytest -p no:django -p no:randomly -p no:asyncio -p no:cacheprovider\n"


@pytest.fixture
def explored(pytester):
    """Explores overlaps of a task in an inner run; returns what it says of the test."""

    def run(body, url="sqlite://", pool="StaticPool", **names):
        source = PROJECT.replace("URL", repr(url)).replace("POOL", pool).replace("BODY", body)
        for name, value in names.items():
            source = source.replace(name, value)
        pytester.path.joinpath("pytest.ini").write_text(INI)
        pytester.path.joinpath("test_shop.py").write_text(source)
        result = pytester.runpytest_inprocess()
        return result.parseoutcomes(), [line for line in result.outlines if "not tried" in line or line.startswith("E   ")]

    return run


def test_a_database_with_one_connection(explored):
    """It is said where overlap could not be tried, and why."""
    said = "test_shop.py::test_charge: overlap was not tried at 3 points inside an open transaction: the database has one connection only"
    assert explored(UPSERT) == ({"passed": 1}, [said])


def test_a_connection_that_both_use(explored, tmp_path):
    """A connection of the module is not the second worker's."""
    outcomes, said = explored(OUTER, f"sqlite:///{tmp_path}/shop.db", "None")
    assert outcomes == {"passed": 1}
    assert said == [
        "test_shop.py::test_charge: overlap was not tried at 4 points inside an open transaction: both deliveries use one connection"
    ]


def test_a_lock_in_redis(explored):
    """The second waits for the lock; where it has a lifetime that is over before, the first one's work is no longer guarded."""
    assert explored(LOCKED, LIFE="") == ({"passed": 1}, [])
    assert explored(LOCKED, LIFE=", timeout=30") == ({"passed": 1}, [])


def test_a_lock_that_is_taken_too_late(explored):
    """Looked before it was locked."""
    body = """seen = order in charged
    with client.lock("charge"):
        if not seen:
            charged.append(order)"""
    outcomes, said = explored(body)
    assert outcomes == {"failed": 1}
    assert said[0] == "E   AssertionError: charge is not idempotent at overlap@3: charged 1 -> 2 items"


def test_a_lock_on_a_file(explored, tmp_path):
    """No more is known of it than that the second stands still."""
    where = repr(str(tmp_path / "lock"))
    assert explored(IN_A_FILE, PATH=where, BEFORE="pass", AFTER=LOOK) == ({"passed": 1}, [])
    outcomes, said = explored(IN_A_FILE, PATH=where, BEFORE=LOOK, AFTER="pass")
    assert outcomes == {"failed": 1}
    assert said[0].startswith("E   AssertionError: charge is not idempotent at overlap@")
    assert said[0].endswith(": charged 1 -> 2 items")


def test_a_long_job_under_a_lock_with_a_lifetime(explored):
    """However many lines the first one runs while the second asks again: time passes only so far as it sleeps itself."""
    assert explored(LONG) == ({"passed": 1}, [])


@pytest.mark.parametrize(("body", "counts"), [(EXECUTED, {"passed": 1}), (PROXY, {"failed": 1})], ids=["executed", "proxy"])
def test_what_is_looked_at_for_locks(explored, body, counts):
    """Neither code without a module nor an object that answers nobody breaks the task."""
    outcomes, said = explored(body)
    assert outcomes == counts
    assert all(line.endswith(": charged 1 -> 2 items") for line in said[:1])


def test_a_counter_in_a_closure(world):
    """What the second one counts is not undone by the tracer of the first."""
    for number in range(1, 4):  # between counting and returning it would be the task that is at fault
        with world.fresh():
            charged.clear()
            world.deliver(numbered, 7, schedule=f"overlap@{number}")
            assert len({*charged}) == 2


def test_the_first_works_elsewhere_for_a_while(explored):
    """While it waits for a process of its own, the second may go on; what each of them does stays its own."""
    body = """with client.lock("charge"):
        if order not in charged:
            client.incr("a")
            subprocess.run(["sleep", "0.3"])
            client.incr("b")
            charged.append(order)"""
    assert explored(f"import subprocess\n    {body}") == ({"passed": 1}, [])
