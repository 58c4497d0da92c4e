"""The shop's own tests: nothing but the marker says what is to be compared."""

import pytest
import responses
import sqlalchemy as sa
from shop import (
    PAY,
    STOCK,
    Base,
    Credit,
    Order,
    archive,
    archive_once,
    book,
    book_once,
    charge,
    charge_once,
    confirm,
    confirm_once,
    credit,
    credit_once,
    db,
    reserve,
    reserve_once,
)
from sqlalchemy.pool import StaticPool

in_memory_too = pytest.mark.parametrize("engine", ["file", "memory"], indirect=True)


@pytest.fixture
def engine(request, tmp_path):
    if getattr(request, "param", "file") == "file":
        engine = sa.create_engine(f"sqlite:///{tmp_path}/shop.db")
    else:
        engine = sa.create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE archive (order_id INTEGER, cents INTEGER)")
    db.configure(bind=engine)
    yield engine
    db.remove()
    engine.dispose()


@pytest.fixture
def order(engine):
    db.add_all([Order(id=7), Credit(customer="ann")])
    db.commit()
    yield 7
    db.remove()


@pytest.fixture
def services():
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        mock.post(PAY, json={"id": "ch_1"})
        reserved = {}

        def put(request):
            reserved[request.url] = request.body
            return 200, {}, "{}"

        mock.add_callback(responses.PUT, f"{STOCK}/7", put)
        for number in range(1, 9):
            mock.add_callback(responses.PUT, f"{STOCK}/{number}", put)
        mock.add_callback(responses.GET, STOCK, lambda request: (200, {}, str(list(range(len(reserved))))))
        yield mock


@in_memory_too
@pytest.mark.idempotent("twice")
def test_broken_rows(order):
    book.delay(order)


@in_memory_too
@pytest.mark.idempotent("twice", "crash", "overlap")
def test_repaired_rows(order):
    book_once.delay(order)


@pytest.mark.idempotent("twice")
def test_broken_counter(order):
    credit.delay("ann", 500)


@pytest.mark.idempotent("twice", "overlap")
def test_repaired_counter(order):
    credit_once.delay("ann", 500, order)


@pytest.mark.idempotent("reply-lost")
def test_broken_request(order, services):
    charge.delay(order)


@pytest.mark.idempotent("twice", "crash", "reply-lost")
def test_repaired_request(order, services):
    charge_once.delay(order)


@pytest.mark.idempotent("twice")
def test_broken_resource(order, services):
    reserve.delay(order)


@pytest.mark.idempotent("twice", "fail")
def test_repaired_resource(order, services):
    reserve_once.delay(order)


@pytest.mark.idempotent("twice")
def test_broken_child(order):
    confirm.delay(order)


@pytest.mark.idempotent("twice", "crash")
def test_repaired_child(order):
    confirm_once.delay(order)


@pytest.mark.idempotent("crash")
def test_broken_archive(order):
    archive.delay(order)


@pytest.mark.idempotent("crash")
def test_repaired_archive(order):
    archive_once.delay(order)
