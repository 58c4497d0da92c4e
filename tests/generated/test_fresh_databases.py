"""Rows, keys and files that each example finds as they were."""

import sqlite3
from contextlib import closing

import pytest
from celery import Celery
from sqlalchemy import Column, ForeignKey, Integer, String, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.pool import StaticPool

from pytest_jobs import JobsWarning, in_process_worker


class Base(DeclarativeBase):
    """The models of these tests."""


class Customer(Base):
    """Who buys."""

    __tablename__ = "customers"
    id = Column(Integer, primary_key=True)
    name = Column(String)


class Order(Base):
    """What somebody bought."""

    __tablename__ = "orders"
    id = Column(Integer, primary_key=True)
    customer = Column(ForeignKey("customers.id"))
    state = Column(String, default="new")


@pytest.fixture
def app():
    """An app that no other test knows."""
    return Celery("kept", broker="memory://localhost/", backend="cache+memory://", set_as_current=False)


def engine_for(kind, folder):
    """Make an engine of a kind."""
    if kind == "memory":
        return create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    return create_engine(f"sqlite:///{folder}/shop.db")


@pytest.fixture(params=["memory", "file"])
def engine(request, tmp_path):
    """A database with one customer and one order."""
    engine = engine_for(request.param, tmp_path)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Customer(id=1, name="Ann"), Order(id=1, customer=1)])
        session.commit()
    yield engine
    engine.dispose()


def rows(engine):
    """Return what both tables hold."""
    with Session(engine) as session:
        return (
            [tuple(row) for row in session.execute(select(Customer.id, Customer.name))],
            [tuple(row) for row in session.execute(select(Order.id, Order.customer, Order.state))],
        )


def test_rows_written_by_jobs_and_by_the_test_are_put_back(app, engine):
    """Through SQLAlchemy, however often."""

    @app.task(shared=False)
    def pay(order):
        with Session(engine) as session:
            session.get(Order, order).state = "paid"
            session.add(Order(customer=1))
            session.commit()

    before = rows(engine)
    with in_process_worker(app) as jobs:
        for _ in range(3):
            with jobs.fresh() as fresh:
                with Session(engine) as session:
                    session.add(Customer(id=2, name="Bob"))
                    session.flush()
                    session.add(Order(id=7, customer=2))
                    session.commit()
                jobs.run(pay, 7)
                jobs.run(pay, 1)
                with Session(engine) as session:
                    assert session.scalar(select(func.count()).select_from(Order)) == 4
                    session.delete(session.get(Order, 1))
                    session.commit()
            assert fresh.left == ()
            assert rows(engine) == before


def test_a_session_that_stays_open_forgets_what_the_block_made(app, engine):
    """The same key can be made again, and what was loaded before is read anew."""

    @app.task(shared=False)
    def pay(order):
        with Session(engine) as session:
            session.get(Order, order).state = "paid"
            session.commit()

    with in_process_worker(app) as jobs, Session(engine) as session:
        first = session.get(Order, 1)
        session.commit()
        held = []
        for _ in range(2):
            with jobs.fresh():
                made = Order(id=8, customer=1)
                held.append(made)
                session.add(made)
                session.commit()
                jobs.run(pay, 8)
                jobs.run(pay, 1)
                session.expire_all()
                assert (first.state, made.state) == ("paid", "paid")
            assert first.state == "new"
            session.rollback()


def test_the_test_wraps_everything_in_a_transaction(app, engine):
    """What was written in the block is undone within it."""
    with engine.connect() as connection, connection.begin() as outer:
        session = Session(bind=connection, join_transaction_mode="create_savepoint")
        session.add(Order(id=5, customer=1))
        session.commit()

        @app.task(shared=False)
        def pay(order):
            session.get(Order, order).state = "paid"
            session.commit()

        with in_process_worker(app) as jobs:
            for _ in range(2):
                with jobs.fresh() as fresh:
                    assert session.get(Order, 5).state == "new"
                    jobs.run(pay, 5)
                    assert session.get(Order, 5).state == "paid"
                assert fresh.left == ()
            assert session.get(Order, 5).state == "new"
        session.close()
        outer.rollback()


def test_a_lock_that_is_held_is_told(app, tmp_path):
    """What cannot be put back is no silent leak."""
    engine = engine_for("file", tmp_path)
    Base.metadata.create_all(engine)
    with in_process_worker(app) as jobs, closing(sqlite3.connect(tmp_path / "shop.db", isolation_level=None)) as other:
        told = "the rows of shop could not be put back: database is locked"
        with pytest.warns(JobsWarning, match=told), jobs.fresh() as fresh:
            with Session(engine) as session:
                session.add(Customer(id=1, name="Ann"))
                session.commit()
            other.execute("BEGIN IMMEDIATE")
        assert len(fresh.left) == 1
    engine.dispose()


def test_autoincrement_counts_anew(app, tmp_path):
    """The next block makes the same keys."""
    engine = engine_for("file", tmp_path)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as direct:
        direct.execute("CREATE TABLE mails (id INTEGER PRIMARY KEY AUTOINCREMENT, about TEXT)")
        direct.execute("INSERT INTO mails (about) VALUES ('a'), ('b')")
        direct.commit()
    with in_process_worker(app) as jobs:
        for _ in range(2):
            with jobs.fresh(), engine.begin() as connection:
                connection.exec_driver_sql("INSERT INTO mails (about) VALUES ('c')")
                assert connection.exec_driver_sql("SELECT max(id) FROM mails").scalar() == 3
    engine.dispose()


@pytest.mark.parametrize("kind", ["memory", "file"])
@pytest.mark.parametrize("isolation", ["", None])
def test_connections_without_any_library(app, tmp_path, kind, isolation):
    """Written by jobs or by the test, first in the block or before it."""
    place = ":memory:" if kind == "memory" else str(tmp_path / "direct.db")
    with closing(sqlite3.connect(place)) as made:
        made.execute("CREATE TABLE stock (name TEXT, number INT)")
        if kind == "file":
            made.execute("INSERT INTO stock VALUES ('a', 1)")
            made.commit()

    with in_process_worker(app) as jobs, closing(sqlite3.connect(place, isolation_level=isolation)) as shop:
        shop.row_factory = sqlite3.Row

        @app.task(shared=False)
        def sell(name):
            shop.execute("UPDATE stock SET number = number - 1 WHERE name = ?", (name,))
            shop.execute("INSERT INTO stock VALUES ('sold', 1)")
            shop.commit()

        if kind == "memory":
            shop.execute("CREATE TABLE stock (name TEXT, number INT)")
            shop.execute("INSERT INTO stock VALUES ('a', 1)")
            shop.commit()
        for _ in range(2):
            with jobs.fresh() as fresh:
                jobs.run(sell, "a")
                shop.execute("DELETE FROM stock WHERE name = 'a'")
                shop.commit()
            assert fresh.left == ()
            assert [tuple(row) for row in shop.execute("SELECT * FROM stock")] == [("a", 1)]
            with jobs.fresh() as fresh:
                shop.execute("DELETE FROM stock")
                shop.commit()
            assert fresh.left == ()
            assert [tuple(row) for row in shop.execute("SELECT * FROM stock")] == [("a", 1)]


def test_a_connection_that_is_gone_is_told(app):
    """Its database went with it."""
    with in_process_worker(app) as jobs:
        shop = sqlite3.connect(":memory:")
        shop.execute("CREATE TABLE stock (number INT)")
        shop.execute("INSERT INTO stock VALUES (1)")
        shop.commit()
        with pytest.warns(JobsWarning, match="the rows of memory could not be put back"), jobs.fresh():
            shop.execute("DELETE FROM stock")
            shop.commit()
            shop.close()
