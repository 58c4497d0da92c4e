"""Rows on servers, put back for each example."""

import pytest
from celery import Celery
from sqlalchemy import (
    JSON,
    Column,
    Computed,
    DateTime,
    ForeignKey,
    Identity,
    Integer,
    LargeBinary,
    Numeric,
    String,
    create_engine,
    func,
    select,
)
from sqlalchemy.orm import DeclarativeBase, Session

from pytest_jobs import in_process_worker


class Base(DeclarativeBase):
    """The models of these tests."""


class Customer(Base):
    """Who buys, with every kind of value that does not pass through a driver as it is."""

    __tablename__ = "kept_customers"
    id = Column(Integer, Identity(always=True), primary_key=True)
    name = Column(String(20))
    about = Column(JSON)
    key = Column(LargeBinary)
    owes = Column(Numeric(10, 2))
    since = Column(DateTime)
    shout = Column(String(20), Computed("upper(name)", persisted=True))
    friend = Column(ForeignKey("kept_customers.id"))


class Order(Base):
    """What somebody bought."""

    __tablename__ = "kept_orders"
    id = Column(Integer, primary_key=True)
    customer = Column(ForeignKey("kept_customers.id"))


@pytest.fixture(params=["postgresql", "mariadb"])
def engine(request, server):
    """A database with two customers and one order."""
    engine = create_engine(server(request.param))
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        ann = Customer(name="ann", about={"a": [1, None]}, key=b"\x00\xff", owes=5, since=func.current_timestamp())
        session.add(ann)
        session.flush()
        session.add_all([Customer(name="bob", friend=ann.id), Order(id=1, customer=ann.id)])
        session.commit()
    yield engine
    Base.metadata.drop_all(engine)
    engine.dispose()


def rows(engine):
    """Return what both tables hold."""
    with engine.connect() as connection:
        kept = [tuple(row) for row in connection.execute(select(Customer.__table__).order_by(Customer.id))]
        return kept, [tuple(row) for row in connection.execute(select(Order.__table__).order_by(Order.id))]


def test_every_value_is_put_back(engine):
    """Computed columns, identities, JSON, bytes, references."""
    app = Celery("kept", broker="memory://localhost/", backend="cache+memory://", set_as_current=False)

    @app.task(shared=False)
    def forget(customer):
        with Session(engine) as session:
            for order in session.scalars(select(Order)):
                session.delete(order)
            session.flush()
            for friend in session.scalars(select(Customer).where(Customer.friend == customer)):
                session.delete(friend)
            session.flush()
            session.delete(session.get(Customer, customer))
            session.commit()

    before = rows(engine)
    with in_process_worker(app) as jobs:
        for _ in range(2):
            with jobs.fresh() as fresh:
                with Session(engine) as session:
                    session.add(Customer(name="cid", about=[]))
                    session.commit()
                assert jobs.run(forget, 1).succeeded
                assert len(rows(engine)[0]) == 1
            assert fresh.left == ()
            assert rows(engine) == before


def test_inside_a_transaction_of_the_test(engine):
    """Nothing of it is committed, and nothing of it is lost."""
    app = Celery("kept", broker="memory://localhost/", backend="cache+memory://", set_as_current=False)
    with engine.connect() as connection, connection.begin() as outer:
        session = Session(bind=connection, join_transaction_mode="create_savepoint")
        session.add(Order(id=5, customer=1))
        session.commit()

        @app.task(shared=False)
        def pay(order):
            session.get(Order, order).customer = 2
            session.commit()

        with in_process_worker(app) as jobs:
            for _ in range(2):
                with jobs.fresh() as fresh:
                    jobs.run(pay, 5)
                    assert session.get(Order, 5).customer == 2
                assert fresh.left == ()
                assert session.get(Order, 5).customer == 1
                session.rollback()
        session.close()
        outer.rollback()
    assert [row[0] for row in rows(engine)[1]] == [1]


@pytest.mark.parametrize("name", ["postgresql", "mariadb"])
def test_connections_without_any_library(name, server):
    """The driver's own."""
    app = Celery("kept", broker="memory://localhost/", backend="cache+memory://", set_as_current=False)
    engine = create_engine(server(name))
    with in_process_worker(app) as jobs:
        shop = engine.dialect.loaded_dbapi.connect(**engine.dialect.create_connect_args(engine.url)[1])
        cursor = shop.cursor()
        cursor.execute("CREATE TABLE kept_stock (name VARCHAR(20), number INT)")
        cursor.execute("INSERT INTO kept_stock VALUES ('a', 1)")
        shop.commit()

        @app.task(shared=False)
        def sell():
            cursor.execute("UPDATE kept_stock SET number = number - 1")
            shop.commit()

        for _ in range(2):
            with jobs.fresh() as fresh:
                assert jobs.run(sell).succeeded
                cursor.execute("INSERT INTO kept_stock VALUES ('b', 1)")
                shop.commit()
            cursor.execute("SELECT * FROM kept_stock")
            assert [tuple(row) for row in cursor.fetchall()] == [("a", 1)]
            assert fresh.left == ()
            shop.commit()
        cursor.execute("DROP TABLE kept_stock")
        shop.commit()
        shop.close()
