"""A shop as Flask applications are built: one scoped session, tasks inside an application context."""

from contextlib import contextmanager

import requests
import sqlalchemy as sa
from celery import Celery, Task
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, scoped_session, sessionmaker

PAY = "https://pay.example/charges"
STOCK = "https://stock.example/reservations"

db = scoped_session(sessionmaker())


@contextmanager
def app_context():
    """Do what Flask-SQLAlchemy does when an application context ends."""
    try:
        yield
    finally:
        db.remove()


class ContextTask(Task):
    def __call__(self, *args, **kwargs):
        with app_context():
            return self.run(*args, **kwargs)


celery = Celery("shop", task_cls=ContextTask, broker="redis://localhost/0", backend="redis://localhost/1")
celery.conf.task_acks_late = True
retried = {
    "autoretry_for": (requests.ConnectionError, sa.exc.OperationalError),
    "retry_backoff": True, "retry_jitter": False, "max_retries": 5,
}


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(default="new")
    cents: Mapped[int] = mapped_column(default=500)


class Payment(Base):
    __tablename__ = "payments"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(sa.ForeignKey("orders.id"))
    cents: Mapped[int]


class Receipt(Base):
    __tablename__ = "receipts"

    order_id: Mapped[int] = mapped_column(sa.ForeignKey("orders.id"), primary_key=True)
    number: Mapped[str]


class Credit(Base):
    __tablename__ = "credits"

    customer: Mapped[str] = mapped_column(primary_key=True)
    cents: Mapped[int] = mapped_column(default=0)


# Rows: a payment for each delivery, or one for an order.


@celery.task(**retried)
def book(order_id):
    """Forget that the order may be booked already."""
    order = db.get_one(Order, order_id)
    db.add(Payment(order_id=order.id, cents=order.cents))
    order.status = "paid"
    db.commit()


@celery.task(**retried)
def book_once(order_id):
    """Mark first, and only an order that is new: of two workers one waits for the other, and finds it paid."""
    mark = sa.update(Order).where(Order.id == order_id, Order.status == "new").values(status="paid")
    if db.execute(mark).rowcount:
        db.add(Payment(order_id=order_id, cents=db.get_one(Order, order_id).cents))
    db.commit()


# A value that is counted up.


@celery.task(**retried)
def credit(customer, cents):
    """Add, each time."""
    db.execute(sa.update(Credit).where(Credit.customer == customer).values(cents=Credit.cents + cents))
    db.commit()


@celery.task(**retried)
def credit_once(customer, cents, order_id):
    """Add in the transaction that also notes what for."""
    db.add(Receipt(order_id=order_id, number=f"{customer}-{order_id}"))
    try:
        db.flush()
    except IntegrityError:
        db.rollback()
        return
    db.execute(sa.update(Credit).where(Credit.customer == customer).values(cents=Credit.cents + cents))
    db.commit()


# A request to another service.


@celery.task(**retried)
def charge(order_id):
    """Charge, then save: whoever comes between charges again."""
    order = db.get_one(Order, order_id)
    if order.status == "paid":
        return "paid"
    requests.post(PAY, json={"cents": order.cents}, timeout=5).raise_for_status()
    order.status = "paid"
    db.commit()
    return "paid"


@celery.task(**retried)
def charge_once(order_id):
    """Charge under a key that the payment service knows again."""
    order = db.get_one(Order, order_id)
    if order.status == "paid":
        return "paid"
    key = {"Idempotency-Key": f"order-{order_id}"}
    requests.post(PAY, json={"cents": order.cents}, headers=key, timeout=5).raise_for_status()
    order.status = "paid"
    db.commit()
    return "paid"


# What the other service holds.


@celery.task(**retried)
def reserve(order_id):
    """Reserve under a number that is another one each time."""
    found = requests.get(STOCK, timeout=5).json()
    requests.put(f"{STOCK}/{len(found) + 1}", json={"order": order_id}, timeout=5).raise_for_status()


@celery.task(**retried)
def reserve_once(order_id):
    """Reserve under the order's number."""
    requests.get(STOCK, timeout=5)
    requests.put(f"{STOCK}/{order_id}", json={"order": order_id}, timeout=5).raise_for_status()


# A job that publishes another one.


@celery.task(**retried)
def confirm(order_id):
    """Tell the child to book: the child books once for each publish."""
    book.delay(order_id)


@celery.task(**retried)
def confirm_once(order_id):
    """Publish a child that may run as often as it likes."""
    book_once.delay(order_id)


# Raw SQL over a connection of Core, in a transaction each.


@celery.task(**retried)
def archive(order_id):
    """Copy, then remove, in two transactions."""
    with db.get_bind().begin() as connection:
        connection.exec_driver_sql("INSERT INTO archive SELECT id, cents FROM orders WHERE id = ?", (order_id,))
    with db.get_bind().begin() as connection:
        connection.execute(sa.delete(Order).where(Order.id == order_id))


@celery.task(**retried)
def archive_once(order_id):
    """Copy and remove at once."""
    with db.get_bind().begin() as connection:
        connection.exec_driver_sql("INSERT INTO archive SELECT id, cents FROM orders WHERE id = ?", (order_id,))
        connection.execute(sa.delete(Order).where(Order.id == order_id))
