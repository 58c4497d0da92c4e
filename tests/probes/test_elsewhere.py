"""What statements write to tables that they do not name: through views, triggers, functions, other schemas, COPY."""

import asyncio
import inspect
import sqlite3
from contextlib import closing

import psycopg
import pymysql
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from pytest_jobs.probes.base import Recorder
from pytest_jobs.probes.dbapi import DBAPIProbe
from pytest_jobs.probes.sqlalchemy import SQLAlchemyProbe
from tests.probes.test_locks import Sink

SQLITE = """
CREATE TABLE a (id INTEGER PRIMARY KEY, n); INSERT INTO a VALUES (7, 0); CREATE TABLE quiet (n); CREATE TABLE hidden (n);
CREATE VIEW seen AS SELECT n FROM hidden;
CREATE TRIGGER into_view INSTEAD OF INSERT ON seen BEGIN INSERT INTO hidden VALUES (new.n); END;
CREATE TRIGGER log_a AFTER UPDATE ON a BEGIN INSERT INTO hidden VALUES (new.n); END;
"""
POSTGRESQL = """
CREATE TABLE a (id int PRIMARY KEY, n int); INSERT INTO a VALUES (7, 0); CREATE TABLE quiet (n int); CREATE TABLE hidden (n int);
CREATE TABLE plain (n int); CREATE SCHEMA other; CREATE TABLE other.plain (n int); CREATE TABLE other.alone (n int);
CREATE VIEW seen AS SELECT n FROM hidden; CREATE TABLE parted (n int) PARTITION BY RANGE (n);
CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (9);
CREATE FUNCTION log_a() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO hidden VALUES (new.n); RETURN new; END $$;
CREATE TRIGGER log_a AFTER UPDATE ON a FOR EACH ROW EXECUTE FUNCTION log_a();
CREATE FUNCTION pay(i int) RETURNS int LANGUAGE sql AS $$ INSERT INTO hidden VALUES (i) RETURNING n $$;
CREATE FUNCTION look(i int) RETURNS int LANGUAGE sql STABLE AS $$ SELECT i $$;
CREATE PROCEDURE pay_all(i int) LANGUAGE sql AS $$ INSERT INTO hidden VALUES (i) $$;
"""
MARIADB = """
CREATE TABLE a (id int PRIMARY KEY, n int); INSERT INTO a VALUES (7, 0); CREATE TABLE quiet (n int); CREATE TABLE hidden (n int);
CREATE VIEW seen AS SELECT n FROM hidden; CREATE TABLE {name}_other.alone (n int);
CREATE TRIGGER log_a AFTER UPDATE ON a FOR EACH ROW INSERT INTO hidden VALUES (new.n);
CREATE FUNCTION pay(i int) RETURNS int MODIFIES SQL DATA BEGIN INSERT INTO hidden VALUES (i)\\; RETURN i\\; END;
CREATE FUNCTION look(i int) RETURNS int READS SQL DATA RETURN i;
CREATE PROCEDURE pay_all(i int) INSERT INTO hidden VALUES (i);
"""
# What is said, and the table in which a row must be seen afterwards.
SAID = {
    "sqlite": {
        "a view": ("INSERT INTO seen VALUES (1)", "hidden"),
        "a trigger": ("UPDATE a SET n = 1 WHERE id = 7", "hidden"),
    },
    "postgresql": {
        "a view": ("INSERT INTO seen VALUES (1)", "hidden"),
        "a trigger": ("UPDATE a SET n = 1 WHERE id = 7", "hidden"),
        "a function": ("SELECT pay(1)", "hidden"),
        "a function in a write": ("INSERT INTO quiet SELECT pay(1)", "hidden"),
        "a procedure": ("CALL pay_all(1)", "hidden"),
        "a block": ("DO $$ BEGIN INSERT INTO hidden VALUES (1); END $$", "hidden"),
        "a partition": ("INSERT INTO part VALUES (1)", "parted"),
        "a search path": ("SET search_path TO other; INSERT INTO alone VALUES (1)", "other.alone"),
        "a search path, one name twice": ("SET search_path TO other; INSERT INTO plain VALUES (1)", "other.plain"),
        "the schema's own name": ("INSERT INTO public.plain VALUES (1)", "plain"),
    },
    "mariadb": {
        "a view": ("INSERT INTO seen VALUES (1)", "hidden"),
        "a trigger": ("UPDATE a SET n = 1 WHERE id = 7", "hidden"),
        "a function": ("SELECT pay(1)", "hidden"),
        "a procedure": ("CALL pay_all(1)", "hidden"),
        "a join": ("INSERT INTO hidden VALUES (0); UPDATE quiet RIGHT JOIN hidden ON TRUE SET hidden.n = 1", "hidden"),
        "another database": ("INSERT INTO {name}_other.alone VALUES (1)", "{name}_other.alone"),
    },
}  # fmt: skip
EMPTY = "DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO PUBLIC"  # as it is when a database is made
CASES = [(kind, name) for kind, said in SAID.items() for name in said]


@pytest.fixture
def place(request, tmp_path, server):
    """Make a database of a kind; return its URL."""
    kind = request.param
    if kind == "sqlite":
        with closing(sqlite3.connect(tmp_path / "shop.db")) as made:
            made.executescript(SQLITE)
        yield make_url(f"sqlite:///{tmp_path}/shop.db")
        return
    url = make_url(server(kind))
    if kind == "postgresql":
        with psycopg.connect(host=url.host, user=url.username, dbname=url.database, autocommit=True) as made:
            made.execute(f"DROP SCHEMA IF EXISTS other CASCADE; {EMPTY}")
            made.execute(POSTGRESQL)
            yield url
            made.execute(f"DROP SCHEMA other CASCADE; {EMPTY}")
        return
    name = url.database
    with closing(pymysql.connect(host=url.host, user=url.username, autocommit=True)) as made:
        cursor = made.cursor()

        def clean():
            for other in (f"{name}_other", name):
                cursor.execute(f"DROP DATABASE IF EXISTS {other}")
            cursor.execute(f"CREATE DATABASE {name}")

        clean()
        cursor.execute(f"CREATE DATABASE {name}_other")
        cursor.execute(f"USE {name}")
        for statement in MARIADB.format(name=name).strip().replace("\\;", "\0").split(";"):
            if statement.strip():
                cursor.execute(statement.replace("\0", ";"))
        yield url
        clean()


def engine_runs(url, statements):
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def driver_runs(url, statements):
    if url.drivername == "sqlite":
        opened = sqlite3.connect(url.database)
    elif url.drivername.startswith("postgresql"):
        opened = psycopg.connect(host=url.host, user=url.username, dbname=url.database)
    else:
        opened = pymysql.connect(host=url.host, user=url.username, database=url.database)
    with closing(opened):
        for statement in statements:
            opened.cursor().execute(statement)
        opened.commit()


def state_after(probe, task):
    recorder = Recorder()
    probe.install(recorder)
    recorder.sink = Sink()
    try:
        task()
        recorder.sink = None
        state, unreadable = probe.read(frozenset())
    finally:
        recorder.sink = None
        probe.remove()
    assert unreadable == ()
    return state


@pytest.mark.parametrize(("make", "run"), [(SQLAlchemyProbe, engine_runs), (DBAPIProbe, driver_runs)])
@pytest.mark.parametrize(("place", "name"), CASES, indirect=["place"], ids=[f"{kind}-{name}" for kind, name in CASES])
def test_a_table_that_is_not_named(place, name, make, run):
    """Its rows are seen all the same."""
    said, table = SAID["mariadb" if "mysql" in place.drivername else place.get_backend_name()][name]
    statements = [each.strip() for each in said.format(name=place.database).split(";")] if "$$" not in said else [said]
    state = state_after(make(), lambda: run(place, statements))
    assert [row["n"] for row in state[table.format(name=place.database)].rows] == [1]


@pytest.mark.parametrize(("make", "run"), [(SQLAlchemyProbe, engine_runs), (DBAPIProbe, driver_runs)])
@pytest.mark.parametrize("place", ["postgresql", "mariadb"], indirect=True)
def test_a_function_that_only_reads(place, make, run):
    """Nothing is read for it."""
    assert state_after(make(), lambda: run(place, ["SELECT look(1)"])) == {}


def _copy(connection):
    with connection.cursor() as cursor, cursor.copy("COPY plain FROM STDIN") as copying:
        copying.write_row((1,))


def _stream(connection):
    with connection.cursor() as cursor:
        assert list(cursor.stream("INSERT INTO plain VALUES (1) RETURNING n")) == [(1,)]


async def _async_copy(connection):
    async with connection.cursor() as cursor, cursor.copy("COPY plain FROM STDIN") as copying:
        await copying.write_row((1,))


async def _async_stream(connection):
    async with connection.cursor() as cursor:
        assert [row async for row in cursor.stream("INSERT INTO plain VALUES (1) RETURNING n")] == [(1,)]


@pytest.mark.parametrize("way", [_copy, _stream, _async_copy, _async_stream])
@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
def test_rows_that_are_copied_or_streamed(place, way):
    """psycopg's other ways to write."""
    given = {"host": place.host, "user": place.username, "dbname": place.database}

    async def in_loop():
        async with await psycopg.AsyncConnection.connect(**given) as connection:
            await way(connection)

    def task():
        if inspect.iscoroutinefunction(way):
            asyncio.run(in_loop())
        else:
            with psycopg.connect(**given) as connection:
                way(connection)

    state = state_after(DBAPIProbe(), task)
    assert [row["n"] for row in state["plain"].rows] == [1]


@pytest.mark.parametrize("place", ["mariadb"], indirect=True)
def test_a_procedure_that_is_called_by_its_name(place):
    """`callproc` is seen."""

    def task():
        with closing(pymysql.connect(host=place.host, user=place.username, database=place.database)) as connection:
            connection.cursor().callproc("pay_all", (1,))
            connection.commit()

    assert [row["n"] for row in state_after(DBAPIProbe(), task)["hidden"].rows] == [1]


def test_a_script(tmp_path):
    """Each of its statements counts, whatever the first one is."""
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as made:
        made.executescript("CREATE TABLE a (n); CREATE TABLE b (n)")

    def task():
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript("BEGIN; INSERT INTO a VALUES (1); INSERT INTO b VALUES (1); COMMIT")

    state = state_after(DBAPIProbe(), task)
    assert {table: [row["n"] for row in rows.rows] for table, rows in state.items()} == {"a": [1], "b": [1]}


def test_a_schema_that_is_called_as_its_database(tmp_path):
    """`shop.orders` is the table of the schema, not the other database's."""
    with closing(sqlite3.connect(tmp_path / "shop.db")) as made:
        made.execute('CREATE TABLE "shop.orders" (n)')
    url = make_url(f"sqlite:///{tmp_path}/shop.db")
    state = state_after(SQLAlchemyProbe(), lambda: engine_runs(url, ['INSERT INTO "shop.orders" VALUES (1)']))
    assert [row["n"] for row in state["shop.orders"].rows] == [1]
