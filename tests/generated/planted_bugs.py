"""Six bugs that need a value and a sequence, each with its repaired twin.

Every task takes the repair from `shop.repaired`; the tests that find the bugs are written as a user would write them.
"""

from collections import Counter
from datetime import datetime
from typing import ClassVar

import planted_store as store
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import rule

from pytest_jobs import JobMachine
from pytest_jobs.strategies import args_for, failures

app = Celery("planted", broker="memory://localhost/", backend="cache+memory://", set_as_current=False)
OPTIONS = {"app": app, "source": [__file__], "start": "2030-01-31T09:00:00+00:00"}


class Shop:
    """What the tasks work on, new for each example."""

    repaired = False

    def open(self):
        """Begin with nothing."""
        self.depot, self.books, self.desk = store.Depot(), store.Books(), store.Desk()
        self.posted = set()

    def post(self, user):
        """Send a message to a user: an outgoing call."""
        self.posted.add(user)


shop = Shop()


# Two items where one is poison: a retry ships the other again.


@app.task(bind=True, shared=False, acks_late=True, max_retries=2)
def ship_all(task, items: list[int]):
    try:
        for place, item in enumerate(items):
            shop.depot.ship(item, f"{task.request.id}:{place}" if shop.repaired else None)
    except ValueError as error:
        raise task.retry(exc=error, countdown=60) from error


def poison(jobs):
    """Make the test that finds it."""

    @given(args_for(ship_all))
    def test_ship_all(args):
        with jobs.fresh():
            shop.open()
            jobs.run(ship_all, *args)
            assert shop.depot.shipped <= Counter(args[0])

    return test_ship_all


# Duplicates across a day boundary: the key that tells them has the day in it.


@app.task(shared=False, acks_late=True)
def bill(invoice):
    if invoice:
        shop.books.insert((invoice, None if shop.repaired else f"{datetime.now():%F}"))


class Billing(JobMachine):
    """Bills invoices; number zero is a draft."""

    tasks: ClassVar = {bill: st.tuples(st.integers(0, 3))}
    options = OPTIONS

    def setup(self):
        shop.open()
        self.jobs.watch(lambda: Counter(invoice for invoice, _ in shop.books.rows), name="charges")


# Reorder, then crash: what came too early is taken from the shelf before it is written.


@app.task(shared=False, acks_late=True)
def edit_document(version, text):
    shop.desk.hold(version, text)
    for number, line in shop.desk.ready() if shop.repaired else shop.desk.take():
        shop.desk.write(number, line.strip())


class Editing(JobMachine):
    """Sends numbered edits of one document to one worker, so that no two overlap: they would leave edits on the shelf."""

    disturb = ("crash", "redeliver", "reorder", "revoke", "fail", "restart")
    options = OPTIONS

    def setup(self):
        shop.open()
        self.version = 0
        self.jobs.watch(lambda: shop.desk.lines, name="lines")

    @rule(target=JobMachine.published, text=st.sampled_from(["a", "b", ""]))
    def edit(self, text):
        self.version += 1
        return self.send(edit_document, self.version, text)


# A counter that wraps: two events share the slot that tells duplicates.


@app.task(shared=False, acks_late=True)
def receive(number, units):
    shop.books.post(number if shop.repaired else number % 2, number, units)


class Metering(JobMachine):
    """Sends numbered events."""

    options = OPTIONS

    def setup(self):
        shop.open()
        self.number = 0
        self.jobs.watch(lambda: shop.books.total, name="total")

    @rule(target=JobMachine.published, units=st.integers(0, 5))
    def emit(self, units):
        self.number += 1
        return self.send(receive, self.number, units)


# Two different jobs on one row: each writes the whole row as it read it.


@app.task(shared=False, acks_late=True)
def tag(user, word):
    row = {} if shop.repaired else shop.books.row(user)
    shop.books.update(user, **{**row, f"tag {word}": True})


@app.task(shared=False, acks_late=True)
def note(user, word):
    row = {} if shop.repaired else shop.books.row(user)
    shop.books.update(user, **{**row, f"note {word}": True})


WORDS = st.tuples(st.integers(1, 2), st.integers(0, 5))


class Profiles(JobMachine):
    """Fills in the profiles of some users."""

    tasks: ClassVar = {tag: WORDS, note: WORDS}
    options = OPTIONS

    def setup(self):
        shop.open()
        self.jobs.watch(lambda: shop.books.rows, name="users")


# A retry that changes its own arguments: the message is made of the list that the body empties.


@app.task(bind=True, shared=False, acks_late=True, max_retries=3)
def notify(task, users: list[int]):
    try:
        for user in list(users):
            if not shop.repaired:
                users.remove(user)
            shop.post(user)
    except ConnectionError as error:
        raise task.retry(exc=error, countdown=10) from error


def arguments(jobs):
    """Make the test that finds it."""

    @given(args_for(notify), failures(ConnectionResetError))
    def test_notify(args, schedule):
        with jobs.fresh():
            shop.open()
            jobs.outgoing(f"{__name__}.shop.post")
            jobs.deliver(notify, *args, schedule=schedule)
            assert shop.posted == set(args[0])

    return test_notify


# Each with the minimal story that every seed is shrunk to.
BUGS = {
    "two items where one is poison": (poison, ("args=([0, -1],)",)),
    "duplicates across a day boundary": (
        Billing,
        ("job_0 = state.publish(call=bill(1))", "state.advance(seconds=86400)", "state.redeliver(job=job_0)"),
    ),
    "reorder, then crash": (
        Editing,
        ("job_0 = state.edit(text='a')", "job_1 = state.edit(text='a')", "state.reorder()", "state.deliver()", "state.crash(at=3)"),
    ),
    "a counter that wraps": (
        Metering,
        (
            "job_0 = state.emit(units=0)", "job_1 = state.emit(units=0)", "job_2 = state.emit(units=1)",
            "state.redeliver(job=job_2)",
        ),
    ),
    "two different jobs on one row": (
        Profiles,
        ("job_0 = state.publish(call=tag(1, 0))", "job_1 = state.publish(call=tag(1, 1))", "state.overlap(at=2)"),
    ),
    "a retry that changes its own arguments": (arguments, ("args=([0],)", "schedule='fail@1:ConnectionResetError'")),
}  # fmt: skip
