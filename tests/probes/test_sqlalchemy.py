"""What the SQLAlchemy probe reports and reads."""

import asyncio
import time

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Dialect, Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker
from sqlalchemy.pool import Pool, StaticPool

from pytest_jobs.probes.base import Recorder
from pytest_jobs.probes.sqlalchemy import SQLAlchemyProbe, engine_rows

NOTHING = frozenset()
SERVERS = ("postgresql", "mariadb")


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


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "jobs_orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(sa.String(20))


class Payment(Base):
    __tablename__ = "jobs_payments"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(sa.ForeignKey("jobs_orders.id"))
    amount: Mapped[int]


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def probe(recorder):
    probe = SQLAlchemyProbe()
    probe.install(recorder)
    yield probe
    recorder.sink = None
    probe.remove()


@pytest.fixture(params=["file", "memory", "static", "postgresql", "mariadb"])
def engine(request, tmp_path, server):
    if request.param in SERVERS:
        engine = sa.create_engine(server(request.param))
    elif request.param == "static":
        engine = sa.create_engine("sqlite://", poolclass=StaticPool)
    else:
        engine = sa.create_engine("sqlite://" if request.param == "memory" else f"sqlite:///{tmp_path}/shop.db")
    with engine.begin() as connection:
        Base.metadata.drop_all(connection)
        Base.metadata.create_all(connection)
        connection.execute(sa.insert(Order).values(id=7, status="new"))
    yield engine
    Base.metadata.drop_all(engine)
    engine.dispose()


def pay(engine):
    with Session(engine) as session:
        session.add(Payment(order_id=7, amount=500))
        session.get_one(Order, 7).status = "paid"
        session.commit()


def run(recorder, task, *args, at=0, error=None):
    recorder.sink = sink = Sink(at, error)
    try:
        task(*args)
    finally:
        recorder.sink = None
    return sink


def amounts(probe):
    return [row["amount"] for row in probe.read(NOTHING)[0]["jobs_payments"].rows]


def test_nothing_is_read_when_nothing_was_written(recorder, probe, engine):
    """A task that only reads leaves nothing to look at, and looking is free."""

    def task():
        with Session(engine) as session:
            session.get_one(Order, 7)

    assert run(recorder, task).points == []
    connected = []
    event.listen(engine, "connect", lambda *_: connected.append(1))
    assert probe.read(NOTHING) == ({}, ())
    assert connected == []


def test_writes_and_the_commit_are_effects(recorder, probe, engine):
    """Each write and the commit is seen right before and right after it happens."""
    sink = run(recorder, pay, engine)
    labels = sorted({effect.label for effect in sink.effects})
    assert labels == ["COMMIT", "INSERT jobs_payments", "UPDATE jobs_orders"]
    assert sink.points[-2:] == ["before COMMIT", "after COMMIT"]
    assert {effect.kind for effect in sink.effects} == {"sql"}
    assert all(effect.safe for effect in sink.effects)
    assert [effect.pending for effect in sink.effects] == [True, True, False]
    insert = next(effect for effect in sink.effects if effect.label.startswith("INSERT"))
    assert insert.target == "jobs_payments"
    assert "500" in insert.detail


def test_rows_know_their_keys(recorder, probe, engine):
    """The state is the rows with their keys, whether those are made up, and what refers to what."""
    run(recorder, pay, engine)
    state, unreadable = probe.read(NOTHING)
    assert unreadable == ()
    payments = state["jobs_payments"]
    assert (payments.key, payments.surrogate) == (("id",), True)
    assert payments.references == {"order_id": "jobs_orders"}
    assert dict(payments.rows[0]) == {"id": 1, "order_id": 7, "amount": 500}
    assert [row["status"] for row in state["jobs_orders"].rows] == ["paid"]


def test_wanted_tables_are_read_too(recorder, probe, engine):
    """A table that only the other run wrote to is read when it is asked for, other probes' subjects are not."""
    with engine.connect() as connection:
        connection.execute(sa.select(Order))
    state, _ = probe.read(frozenset({"jobs_orders", "redis:lock", "no_such_table"}))
    assert [row["status"] for row in state["jobs_orders"].rows] == ["new"]
    assert list(state) == ["jobs_orders"]


def test_a_rollback_leaves_no_state(recorder, probe, engine):
    """What was rolled back is not there, and its commit is no effect."""

    def task():
        with Session(engine) as session:
            session.add(Payment(order_id=7, amount=500))
            session.flush()
            session.rollback()
            session.commit()

    assert run(recorder, task).points == ["before INSERT jobs_payments", "after INSERT jobs_payments"]
    assert amounts(probe) == []


def test_open_transactions_are_not_seen(recorder, probe, engine):
    """Rows that are not committed do not count where another connection cannot see them."""
    if engine.url.database in {None, "", ":memory:"}:
        pytest.skip("one connection sees what it wrote")
    with Session(engine) as session:
        recorder.sink = Sink()
        session.add(Payment(order_id=7, amount=500))
        session.flush()
        assert amounts(probe) == []
        session.commit()
        assert amounts(probe) == [500]


@pytest.mark.parametrize("at", range(1, 7))
def test_an_injected_error_is_wrapped_as_the_drivers_own(recorder, probe, engine, at):
    """The driver's error comes out as SQLAlchemy's, at every point, and nothing is half-committed."""
    with pytest.raises(OperationalError) as caught:
        run(recorder, pay, engine, at=at)
    assert isinstance(caught.value.orig, engine.dialect.loaded_dbapi.OperationalError)
    assert not caught.value.connection_invalidated
    assert amounts(probe) == ([500] if at == 6 else [])
    run(recorder, pay, engine)
    assert amounts(probe) == ([500, 500] if at == 6 else [500])


@pytest.mark.parametrize("at", range(1, 7))
def test_a_kill_leaves_what_the_server_would_keep(recorder, probe, engine, at):
    """A killed task's transaction is gone, its locks too, and the database in memory is still there."""
    session = Session(engine)

    def task():
        session.add(Payment(order_id=7, amount=500))
        session.get_one(Order, 7).status = "paid"
        session.commit()

    with pytest.raises(Killed):
        run(recorder, task, at=at, error=Killed())
    probe.forget()
    assert amounts(probe) == ([500] if at == 6 else [])
    run(recorder, pay, engine)
    assert amounts(probe)[-1] == 500
    session.close()


def test_a_killed_core_transaction_is_rolled_back(recorder, probe, engine):
    """A connection that a dead task still holds is closed."""
    held = []

    def task():
        connection = engine.connect()
        held.append((connection, connection.begin()))
        connection.execute(sa.insert(Payment).values(order_id=7, amount=500))

    run(recorder, task)
    probe.forget()
    assert amounts(probe) == []
    run(recorder, pay, engine)
    assert amounts(probe) == [500]


def outer(engine):
    """Wrap a test in a transaction, as most pytest suites do, with the driver's own transactions out of the way."""
    connection = engine.connect()
    if engine.dialect.name == "sqlite":
        connection.connection.dbapi_connection.isolation_level = None
        event.listen(connection, "begin", lambda conn: conn.exec_driver_sql("BEGIN"))
    transaction = connection.begin()
    return connection, transaction


def test_rows_in_the_tests_own_transaction_are_seen(recorder, probe, engine):
    """With one outer transaction around the test, a session's commit is a commit and its rows are the state."""
    connection, transaction = outer(engine)
    make = sessionmaker(connection, join_transaction_mode="create_savepoint")
    with make() as session:
        session.add(Payment(order_id=7, amount=1))
        session.commit()
        assert session.scalars(sa.select(Payment.amount)).all() == [1]

        def task():
            session.add(Payment(order_id=7, amount=2))
            session.commit()

        sink = run(recorder, task)
        assert sink.points[-2:] == ["before COMMIT", "after COMMIT"]
        assert amounts(probe) == [1, 2]
        with pytest.raises(Killed):
            run(recorder, task, at=3, error=Killed())
        probe.forget()
        assert amounts(probe) == [1, 2]
        assert session.scalars(sa.select(Payment.amount)).all() == [1, 2]
    transaction.rollback()
    connection.close()
    assert amounts(probe) == []


def test_what_a_killed_task_wrote_into_the_tests_work_is_told(recorder, probe, engine):
    """When test and task share uncommitted work, a kill cannot undo half of it: the test is told so."""
    with Session(engine) as session:
        session.add(Payment(order_id=7, amount=1))
        session.flush()

        def task():
            session.add(Payment(order_id=7, amount=2))
            session.flush()

        with pytest.raises(Killed):
            run(recorder, task, at=2, error=Killed())
        probe.forget()
        assert "transaction that the test began" in probe.read(NOTHING)[1][0].reason


def test_a_scoped_session_lives_on_after_a_kill(recorder, probe, engine):
    """A session that test and task share can be used again after the task's death."""
    scoped = scoped_session(sessionmaker(engine))
    order = scoped.get_one(Order, 7)

    def task():
        scoped.get_one(Order, 7).status = "paid"
        scoped.commit()

    with pytest.raises(Killed):
        run(recorder, task, at=2, error=Killed())
    probe.forget()
    assert order.status == "new"
    run(recorder, task)
    assert order.status == "paid"
    scoped.remove()


def test_core_text_and_many_rows(recorder, probe, engine):
    """Plain SQL, several rows at once, upserts and common table expressions name their tables."""

    def task():
        with engine.begin() as connection:
            connection.execute(sa.insert(Payment), [{"order_id": 7, "amount": 1}, {"order_id": 7, "amount": 2}])
            connection.exec_driver_sql("UPDATE jobs_orders SET status = 'a; INSERT INTO x'")
            connection.execute(sa.text("DELETE FROM jobs_payments WHERE amount = :amount"), {"amount": 1})

    sink = run(recorder, task)
    assert [effect.label for effect in sink.effects] == [
        "INSERT jobs_payments",
        "UPDATE jobs_orders",
        "DELETE jobs_payments",
        "COMMIT",
    ]
    assert amounts(probe) == [2]


def test_autocommit_has_no_commit(recorder, probe, engine):
    """In autocommit mode the statement is the commit."""

    def task():
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.insert(Payment).values(order_id=7, amount=5))

    assert [(effect.label, effect.pending) for effect in run(recorder, task).effects] == [("INSERT jobs_payments", False)]
    assert amounts(probe) == [5]


@pytest.mark.parametrize("ending", ["commit", "rollback", "close"])
def test_a_transaction_is_held_from_its_first_write(recorder, probe, engine, ending):
    """From the first write, or lock, until the transaction ends no other worker could come by."""

    def task():
        with Session(engine) as session:
            session.get_one(Order, 7)
            assert not recorder.holding
            session.add(Payment(order_id=7, amount=500))
            session.flush()
            assert recorder.holding
            getattr(session, ending)()
            assert not recorder.holding
            if engine.dialect.name != "sqlite":
                session.get_one(Order, 7, with_for_update=True)
                assert recorder.holding
                session.commit()
                assert not recorder.holding

    run(recorder, task)


@pytest.mark.parametrize("url", ["sqlite+aiosqlite:///{}/shop.db", "sqlite+aiosqlite://", "postgresql"])
def test_async_engines(recorder, probe, tmp_path, server, url):
    """An async engine is seen as a sync one is, a kill and a read from within its loop included."""
    engine = create_async_engine(server(url) if url in SERVERS else url.format(tmp_path))
    seen = []

    async def main():
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
            await connection.run_sync(Base.metadata.create_all)
        recorder.sink = sink = Sink()
        async with AsyncSession(engine) as session:
            session.add(Order(id=7, status="new"))
            await session.commit()
        seen.append(probe.read(NOTHING))
        recorder.sink = Sink(at=1)
        with pytest.raises(OperationalError):
            async with AsyncSession(engine) as session:
                session.add(Order(id=8, status="new"))
                await session.commit()
        recorder.sink = Sink(at=2, error=Killed())
        session = AsyncSession(engine)
        try:
            session.add(Order(id=9, status="new"))
            await session.commit()
        except Killed:
            probe.forget()
        recorder.sink = None
        await session.close()
        return sink.points

    points = asyncio.run(main())
    assert points == ["before INSERT jobs_orders", "after INSERT jobs_orders", "before COMMIT", "after COMMIT"]
    assert [row["id"] for row in seen[0][0]["jobs_orders"].rows] == [7]
    assert [row["id"] for row in probe.read(NOTHING)[0]["jobs_orders"].rows] == [7]
    asyncio.run(engine.dispose())


def test_an_exhausted_pool_does_not_stop_the_look(recorder, probe, tmp_path):
    """The state is read past the pool, which a task may hold all of."""
    engine = sa.create_engine(f"sqlite:///{tmp_path}/shop.db", pool_size=1, max_overflow=0, pool_timeout=1)
    Base.metadata.create_all(engine)
    recorder.sink = Sink()
    with engine.connect() as connection:
        connection.execute(sa.insert(Order).values(id=1, status="new"))
        connection.commit()
        connection.execute(sa.select(Order))
        assert [row["id"] for row in probe.read(NOTHING)[0]["jobs_orders"].rows] == [1]


def test_a_locked_sqlite_file_is_told_at_once(recorder, probe, tmp_path):
    """A database that somebody holds exclusively is unreadable, after 50 ms at most."""
    engine = sa.create_engine(f"sqlite:///{tmp_path}/shop.db")
    Base.metadata.create_all(engine)
    recorder.sink = Sink()
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN EXCLUSIVE")
        connection.exec_driver_sql("INSERT INTO jobs_orders VALUES (1, 'new')")
        started = time.perf_counter()
        state, unreadable = probe.read(NOTHING)
        assert time.perf_counter() - started < 2
        assert state == {}
        assert unreadable[0].reason == "jobs_orders could not be read: database is locked"


@pytest.fixture
def reader(server):
    """An engine whose user may write to the table `jobs_secrets`, but read its keys only."""
    engine = sa.create_engine(server("postgresql"))
    role = f"{engine.url.database}_reader"
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE jobs_secrets (id int PRIMARY KEY, secret text)")
        connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN")
        connection.exec_driver_sql(f"GRANT SELECT (id), INSERT ON jobs_secrets TO {role}")
    reader = sa.create_engine(engine.url.set(username=role))
    yield reader
    reader.dispose()
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE jobs_secrets")
        connection.exec_driver_sql(f"DROP ROLE {role}")
    engine.dispose()


def test_a_column_that_cannot_be_read_is_named(reader, recorder, probe):
    """What can be read is; the column that cannot is told by name."""

    def task():
        with reader.begin() as connection:
            connection.exec_driver_sql("INSERT INTO jobs_secrets VALUES (1, 'x')")

    run(recorder, task)
    state, unreadable = probe.read(NOTHING)
    assert [dict(row) for row in state["jobs_secrets"].rows] == [{"id": 1}]
    assert unreadable[0].reason == "jobs_secrets.secret could not be read: permission denied for table jobs_secrets"


def test_two_databases_may_have_the_same_tables(recorder, probe, tmp_path):
    """The second database's tables carry its name."""
    shop, archive = (sa.create_engine(f"sqlite:///{tmp_path}/{name}.db") for name in ("shop", "archive"))
    for engine in (shop, archive):
        Base.metadata.create_all(engine)

    def task():
        for engine in (shop, archive):
            with Session(engine) as session:
                session.add(Order(status=str(engine.url.database[-10:])))
                session.commit()

    sink = run(recorder, task)
    assert [effect.target for effect in sink.effects] == [
        "jobs_orders",
        "jobs_orders",
        "archive.jobs_orders",
        "archive.jobs_orders",
    ]
    assert set(probe.read(NOTHING)[0]) == {"jobs_orders", "archive.jobs_orders"}


def test_any_other_dialect_is_reflected(recorder, probe, tmp_path, monkeypatch):
    """A database whose catalog we do not know is read with SQLAlchemy's inspector."""
    monkeypatch.setattr("pytest_jobs.probes.sqlalchemy_state.FAMILIES", {})
    engine = sa.create_engine(f"sqlite:///{tmp_path}/shop.db")
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(Order).values(id=7, status="new"))
    run(recorder, pay, engine)
    payments = probe.read(NOTHING)[0]["jobs_payments"]
    assert (payments.key, payments.references) == (("id",), {"order_id": "jobs_orders"})
    assert set(engine_rows(engine)) == {"jobs_orders", "jobs_payments"}


def test_removal_leaves_sqlalchemy_as_it_was(recorder, tmp_path):
    """No listener, no flag and no patched dialect stays behind."""
    engine = sa.create_engine(f"sqlite:///{tmp_path}/shop.db")
    Base.metadata.create_all(engine)

    def state():
        return (
            Engine._has_events,
            Dialect._has_events,
            "do_commit" in vars(engine.dialect),
            [list(target.dispatch.checkout) for target in (engine.pool,)],
            [len(getattr(Pool.dispatch, name)._clslevel.get(Pool, ())) for name in ("checkout", "checkin")],
            [len(getattr(Engine.dispatch, name)._clslevel.get(Engine, ())) for name in ("begin", "commit")],
        )

    before = state()
    probe = SQLAlchemyProbe()
    probe.install(recorder)
    run(recorder, lambda: Session(engine).close())
    with Session(engine) as session:
        recorder.sink = Sink()
        session.add(Order(status="new"))
        session.commit()
        assert "do_commit" in vars(engine.dialect)
    recorder.sink = None
    probe.remove()
    assert state() == before
