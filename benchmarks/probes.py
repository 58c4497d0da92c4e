"""What watching costs: a task body of 20 statements with and without the probes.

    python benchmarks/probes.py

Prints one line a library: milliseconds without and with its probe, and the ratio, which is to stay below 1.5.
"""

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fakeredis
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from pytest_jobs.probes.base import Probe, Recorder
from pytest_jobs.probes.dbapi import DBAPIProbe
from pytest_jobs.probes.django import DjangoProbe
from pytest_jobs.probes.http import HttpProbe
from pytest_jobs.probes.redis import RedisProbe
from pytest_jobs.probes.sqlalchemy import SQLAlchemyProbe

ROUNDS = 15
BODIES = 40


class Sink:
    """A worker that only writes down."""

    def __init__(self) -> None:
        self.effects: list[Any] = []

    def before(self, effect: Any, error: Any) -> None:
        """Nothing goes wrong here."""

    def after(self, effect: Any, error: Any) -> None:
        """Record."""
        self.effects.append(effect)


class Base(DeclarativeBase):
    """The benchmark's models."""


class Payment(Base):
    """One row."""

    __tablename__ = "orm_payments"

    id: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[int]


def core(url: str) -> Callable[[], None]:
    """10 inserts and 10 selects in one transaction."""
    engine = create_engine(url)
    meta = MetaData()
    table = Table("payments", meta, Column("id", Integer, primary_key=True), Column("note", String))
    meta.drop_all(engine)
    meta.create_all(engine)

    def body() -> None:
        with engine.begin() as connection:
            for number in range(10):
                connection.execute(table.insert().values(note=f"n{number}"))
                connection.execute(select(table.c.id).where(table.c.id == number)).all()
            connection.rollback()

    return body


def orm(url: str) -> Callable[[], None]:
    """10 flushes and 10 selects, then a rollback."""
    engine = create_engine(url)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)

    def body() -> None:
        with Session(engine) as session:
            for number in range(10):
                session.add(Payment(amount=number))
                session.flush()
                session.scalars(select(Payment).where(Payment.amount == number)).all()
            session.rollback()

    return body


def direct(path: Path) -> Callable[[], None]:
    """10 inserts and 10 selects over `sqlite3`, then a commit."""
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS payments (id INTEGER PRIMARY KEY, note TEXT)")
    connection.close()

    def body() -> None:
        connection = sqlite3.connect(path)
        for number in range(10):
            connection.execute("INSERT INTO payments (note) VALUES (?)", (f"n{number}",))
            connection.execute("SELECT id FROM payments WHERE id = ?", (number,)).fetchall()
        connection.commit()
        connection.close()

    return body


def redis_body() -> Callable[[], None]:
    """10 SETs and 10 GETs."""
    client = fakeredis.FakeRedis(server=fakeredis.FakeServer())

    def body() -> None:
        for number in range(10):
            client.set(f"key:{number}", number)
            client.get(f"key:{number}")

    return body


def django_body(path: Path) -> Callable[[], None]:
    """10 creates and 10 selects of the ORM in one block, then a rollback."""
    import django
    from django.conf import settings

    settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}})
    django.setup()
    from django.db import connection, models, transaction

    class Order(models.Model):
        """One row."""

        id = models.BigAutoField(primary_key=True)
        cents = models.IntegerField()

        class Meta:
            """Of no installed app."""

            app_label = "benchmark"

    with connection.schema_editor() as editor:
        editor.create_model(Order)

    def body() -> None:
        with transaction.atomic():
            for number in range(10):
                Order.objects.create(cents=number)
                list(Order.objects.filter(cents=number))
            transaction.set_rollback(True)

    return body


def http_body() -> Callable[[], None]:
    """20 requests with `requests`, which `responses` answers."""
    import requests
    import responses

    mock = responses.RequestsMock()
    mock.post("https://pay.example/charges")
    mock.start()
    session = requests.Session()

    def body() -> None:
        for number in range(20):
            session.post("https://pay.example/charges", json={"order": number}, timeout=5)
        mock.calls.reset()

    return body


def milliseconds(body: Callable[[], None]) -> float:
    """Time one body, the mean of many."""
    started = time.perf_counter()
    for _ in range(BODIES):
        body()
    return (time.perf_counter() - started) / BODIES * 1000


def measure(make: Callable[[], Probe], body: Callable[[], None]) -> tuple[float, float]:
    """Time a body without and with a probe in turns, so that both see the same machine."""
    without, watched = [], []
    body()
    for _ in range(ROUNDS):
        without.append(milliseconds(body))
        probe, recorder = make(), Recorder()
        probe.install(recorder)
        recorder.sink = Sink()
        watched.append(milliseconds(body))
        probe.remove()
    return statistics.median(without), statistics.median(watched)


def cases(folder: Path) -> Iterator[tuple[str, Callable[[], Probe], Callable[[], None]]]:
    """Yield each library's case."""
    yield "sqlalchemy core, sqlite file", SQLAlchemyProbe, core(f"sqlite:///{folder}/core.db")
    yield "sqlalchemy orm, sqlite file", SQLAlchemyProbe, orm(f"sqlite:///{folder}/orm.db")
    yield "sqlalchemy orm, memory", SQLAlchemyProbe, orm("sqlite://")
    yield "sqlite3", DBAPIProbe, direct(folder / "direct.db")
    yield "django orm, sqlite file", DjangoProbe, django_body(folder / "django.db")
    yield "fakeredis", RedisProbe, redis_body()
    yield "requests with responses", HttpProbe, http_body()


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        for name, make, body in cases(Path(folder)):
            without, watched = measure(make, body)
            print(f"{name:30} {without:8.2f} ms {watched:8.2f} ms {watched / without:6.2f} x")


if __name__ == "__main__":
    main()
