"""Tests that need a Django project: `test_django.py` runs them in a process of its own."""

import os
import smtplib
import uuid
from itertools import product

import django
import pytest
from django.conf import settings

settings.configure(
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
        "ledger": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ["CASE_DB"] + ".live",
            "TEST": {"NAME": os.environ["CASE_DB"]},
        },
    },
    INSTALLED_APPS=["django_inside"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
    USE_TZ=True,
)
django.setup()

from django.core import mail
from django.core.cache import cache, caches
from django.core.cache.backends.locmem import LocMemCache
from django.core.mail.backends.locmem import EmailBackend
from django.db import IntegrityError, OperationalError, connection, connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from pytest_jobs.probes.base import DELETED, Recorder
from pytest_jobs.probes.django import (
    DjangoProbe,
    available,
    model_rows,
    queryset_rows,
)
from pytest_jobs.world import Rows


class Order(models.Model):
    cents = models.IntegerField(unique=True)

    class Meta:
        app_label = "django_inside"
        db_table = "orders"


class Payment(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    order = models.ForeignKey(Order, models.CASCADE, null=True, db_constraint=False)

    class Meta:
        app_label = "django_inside"
        db_table = "payments"


class BigOrder(Order):
    note = models.TextField(default="")

    class Meta:
        app_label = "django_inside"
        db_table = "big_orders"


class Killed(BaseException):
    pass


class Sink:
    def __init__(self, label="", place="before", error=None):
        self.label = label
        self.place = place
        self.error = error
        self.effects = []

    def before(self, effect, error):
        self.strike("before", effect, error)

    def after(self, effect, error):
        self.effects.append(effect)
        self.strike("after", effect, error)

    def strike(self, place, effect, error):
        if self.label and place == self.place and effect.label.startswith(self.label):
            self.label = ""
            raise self.error or error()

    @property
    def labels(self):
        return [effect.label for effect in self.effects]


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        for db in connections.all():
            with db.schema_editor() as editor:
                for model in (Order, Payment, BigOrder):
                    editor.create_model(model)
    yield


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def probe(recorder):
    probe = DjangoProbe()
    probe.install(recorder)
    yield probe
    recorder.sink = None
    probe.remove()


@pytest.fixture(
    params=[
        pytest.param("db", marks=pytest.mark.django_db),
        pytest.param("transactional_db", marks=pytest.mark.django_db(transaction=True)),
    ]
)
def any_db(request, _django_db_helper):
    assert bool(connection.atomic_blocks) == (request.param == "db")


def rows(probe, *wanted):
    state, unreadable = probe.read(frozenset(wanted))
    assert unreadable == ()
    return {subject: [row["cents"] for row in found.rows] for subject, found in state.items() if subject == "orders"}


def in_autocommit():
    Order.objects.create(cents=1)
    Order.objects.create(cents=2)


def in_a_block():
    with transaction.atomic():
        Order.objects.create(cents=1)
        Order.objects.create(cents=2)


def in_a_block_without_savepoint():
    with transaction.atomic(savepoint=False):
        Order.objects.create(cents=1)
        Order.objects.create(cents=2)


def in_bulk():
    Order.objects.bulk_create([Order(cents=1), Order(cents=3)], batch_size=1)
    Order.objects.filter(cents__in=[1, 3]).delete()
    Order.objects.bulk_create([Order(cents=1), Order(cents=2)], batch_size=1)


BLOCKS = [in_a_block, in_a_block_without_savepoint]


def test_writes_outside_a_block(any_db, probe, recorder):
    """A write that commits by itself is one effect."""
    recorder.sink = sink = Sink()
    in_autocommit()
    assert sink.labels == ["INSERT orders"] * 2
    effect = sink.effects[0]
    assert (effect.kind, effect.target, effect.safe, effect.detail) == ("sql", "orders", True, "1")
    assert not effect.pending and not recorder.holding
    assert rows(probe) == {"orders": [1, 2]}


@pytest.mark.parametrize("task", BLOCKS)
def test_a_block_commits(task, any_db, probe, recorder):
    """A job's outermost block ends in a commit, in a test's transaction too."""
    recorder.sink = sink = Sink()
    task()
    assert sink.labels == ["INSERT orders", "INSERT orders", "COMMIT"]
    assert [effect.pending for effect in sink.effects] == [True, True, False]
    assert (sink.effects[-1].target, sink.effects[-1].detail) == ("orders", "orders")


def test_an_open_block_is_held(any_db, probe, recorder):
    """From its first write to its end a job's block is held, also when it is rolled back."""
    recorder.sink = Sink()
    with transaction.atomic():
        Order.objects.count()
        assert not recorder.holding
        Order.objects.create(cents=1)
        assert recorder.holding
    assert not recorder.holding
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Order.objects.create(cents=2)
        raise ZeroDivisionError
    assert not recorder.holding


def test_blocks_that_only_read_or_nest(any_db, probe, recorder):
    """Nested blocks commit once, and reading commits nothing."""
    recorder.sink = sink = Sink()
    with transaction.atomic():
        Order.objects.count()
    with transaction.atomic():
        with transaction.atomic():
            Order.objects.create(cents=1)
        Order.objects.update(cents=3)
    assert sink.labels == ["INSERT orders", "UPDATE orders", "COMMIT"]


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize(
    ("task", "label"), [(in_autocommit, "INSERT"), *product([*BLOCKS, in_bulk], ["INSERT", "COMMIT"])]
)
def test_a_transient_error(task, label, place, any_db, probe, recorder):
    """The driver's error comes out as Django's own, and leaves what it would leave in production."""
    recorder.sink = Sink(label, place)
    with pytest.raises(OperationalError, match="locked"):
        task()
    recorder.sink = None
    took_effect = place == "after" and (label == "COMMIT" or task is in_autocommit)
    found = list(Order.objects.values_list("cents", flat=True))
    assert found == ([1] if task is in_autocommit else [1, 2] if task in BLOCKS else [1, 3]) * took_effect
    Order.objects.all().delete()
    recorder.sink = sink = Sink()
    task()
    assert "INSERT orders" in sink.labels
    assert list(Order.objects.values_list("cents", flat=True)) == [1, 2]


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("label", ["INSERT", "COMMIT"])
@pytest.mark.parametrize("task", [*BLOCKS, in_bulk])
def test_a_kill_rolls_back(task, label, place, any_db, probe, recorder):
    """A worker that is killed before its commit leaves nothing; the next one can go on."""
    recorder.sink = Sink(label, place, Killed())
    with pytest.raises(Killed):
        task()
    probe.forget()
    recorder.sink = None
    committed = place == "after" and label == "COMMIT"
    assert list(Order.objects.values_list("cents", flat=True)) == ([1, 2] if task in BLOCKS else [1, 3]) * committed
    Order.objects.all().delete()
    recorder.sink = Sink()
    task()
    assert rows(probe) == {"orders": [1, 2]}


@pytest.mark.parametrize("savepoint", [True, False])
def test_a_block_that_was_never_left(savepoint, any_db, probe, recorder):
    """A kill that skips every `__exit__` is rolled back by `forget`."""
    depth = len(connection.atomic_blocks)
    recorder.sink = Sink()
    Order.objects.create(cents=1)
    transaction.atomic(savepoint=savepoint).__enter__()
    Order.objects.create(cents=2)
    transaction.atomic().__enter__()
    Order.objects.create(cents=3)
    transaction.on_commit(pytest.fail)
    probe.forget()
    recorder.sink = None
    assert len(connection.atomic_blocks) == depth
    assert rows(probe) == {"orders": [1]}
    in_a_block_again = transaction.atomic()
    with in_a_block_again:
        Order.objects.create(cents=4)
    assert rows(probe) == {"orders": [1, 4]}


def test_forget_leaves_the_tests_own_block(db, probe, recorder):
    """A block that the test itself opened stays open when a job in it is killed."""
    recorder.sink = Sink()
    in_a_block()
    recorder.sink = None
    with transaction.atomic():
        Order.objects.create(cents=7)
        recorder.sink = Sink("COMMIT", "before", Killed())
        with pytest.raises(Killed), transaction.atomic():
            Order.objects.create(cents=8)
            raise Killed
        probe.forget()
        recorder.sink = None
        assert sorted(Order.objects.values_list("cents", flat=True)) == [1, 2, 7]


@pytest.mark.parametrize("vendor", ["sqlite", "postgresql"])
def test_a_real_error_outside_a_block(vendor, any_db, probe, recorder, monkeypatch):
    """A task that catches an IntegrityError can go on, as it can in production."""
    if vendor == "postgresql":
        monkeypatch.setattr("pytest_jobs.probes.django_commits.ABORTING", {"sqlite"})
    in_autocommit()
    recorder.sink = sink = Sink()
    with pytest.raises(IntegrityError):
        Order.objects.filter(cents=2).update(cents=1)
    Order.objects.filter(cents=2).update(cents=3)
    assert sink.labels == ["UPDATE orders"]
    with pytest.raises(IntegrityError), transaction.atomic():
        Order.objects.filter(cents=3).update(cents=1)
    assert sink.labels == ["UPDATE orders"]
    assert rows(probe) == {"orders": [1, 3]}


def test_queries_are_not_added(db, probe, recorder, django_assert_num_queries):
    """What the probe does itself is not among the queries that a test counts."""
    recorder.sink = Sink()
    Order.objects.create(cents=9)
    with django_assert_num_queries(2):
        Order.objects.bulk_create([Order(cents=1), Order(cents=2)], batch_size=1)
        probe.read(frozenset())


def test_nothing_outside_a_job(any_db, probe, recorder):
    """What the test does is unseen, and reading costs nothing then."""
    in_a_block()
    cache.set("lock", 1)
    mail.send_mail("Hello", "text", "shop@x.example", ["ann@x.example"])
    assert probe.read(frozenset()) == ({}, ())
    assert rows(probe, "orders", "elsewhere") == {"orders": [1, 2]}


def test_rows_know_their_model(db, probe, recorder):
    """Keys that the job makes and references are told, also those that the database does not know."""
    recorder.sink = Sink()
    payment = Payment.objects.create(order=Order.objects.create(cents=5))
    recorder.sink = None
    state, _ = probe.read(frozenset())
    assert state["payments"] == Rows(
        ("id",), ({"id": payment.id, "order_id": payment.order_id},), True, {"order_id": "orders"}
    )
    assert state["orders"].surrogate
    assert model_rows(Payment) == ("payments", state["payments"])
    assert queryset_rows(Payment.objects.filter(order__cents=5)) == ("payments", state["payments"])
    assert queryset_rows(Order.objects.values("cents")) == ("orders", Rows((), ({"cents": 5},)))
    assert queryset_rows(Order.objects.none())[1].rows == ()


def test_multi_table_models(any_db, probe, recorder):
    """A model over two tables is saved in a block of its own, which a kill rolls back."""
    recorder.sink = Sink("INSERT big_orders", "before", Killed())
    with pytest.raises(Killed):
        BigOrder.objects.create(cents=1)
    probe.forget()
    recorder.sink = sink = Sink()
    BigOrder.objects.create(cents=1)
    assert sink.labels == ["INSERT orders", "INSERT big_orders", "COMMIT"]
    state, _ = probe.read(frozenset())
    assert [len(state[table].rows) for table in ("orders", "big_orders")] == [1, 1]
    assert not state["big_orders"].surrogate


@pytest.mark.django_db(databases=["default", "ledger"], transaction=True)
def test_another_database(probe, recorder):
    """Each database has its own subjects, and what is not committed yet is not in the world."""
    recorder.sink = sink = Sink()
    Order.objects.using("ledger").create(cents=1)
    with transaction.atomic(using="ledger"):
        Order.objects.using("ledger").create(cents=2)
        state, _ = probe.read(frozenset())
    assert [row["cents"] for row in state["orders@ledger"].rows] == [1]
    assert [effect.target for effect in sink.effects] == ["orders@ledger"] * 3
    assert list(state) == ["orders@ledger"]


@pytest.mark.django_db(databases=["default", "ledger"])
def test_a_database_that_cannot_be_read(probe, monkeypatch):
    """A database that cannot be read is told, with the reason; one that there is not is no subject of ours."""
    wanted = frozenset({"orders@ledger", "orders@elsewhere"})
    assert list(probe.read(wanted)[0]) == ["orders@ledger"]
    monkeypatch.setattr(connections["ledger"], "connection", None)
    monkeypatch.setattr(connections["ledger"], "ensure_connection", lambda: 1 / 0)
    state, unreadable = probe.read(wanted)
    assert state == {}
    assert [(each.probe, each.reason) for each in unreadable] == [
        ("django", "the database ledger could not be read: division by zero")
    ]
    monkeypatch.setattr(connections["ledger"], "vendor", "oracle")
    assert "is oracle" in probe.read(wanted)[1][0].reason


def test_mail(probe, recorder):
    """Each mail is one effect, alone or among many."""
    recorder.sink = sink = Sink()
    mail.send_mail("Hello", "text", "shop@x.example", ["bo@x.example", "ann@x.example"])
    mail.send_mass_mail([("Sale", "text", None, [to]) for to in ("ann@x.example", "bo@x.example")])
    mail.EmailMessage("Nobody", "text").send()
    assert sink.labels == [
        "mail to ann@x.example,bo@x.example: Hello", "mail to ann@x.example: Sale", "mail to bo@x.example: Sale",
    ]  # fmt: skip
    assert {(effect.kind, effect.safe) for effect in sink.effects} == {("mail", False)}
    assert sink.effects[0].target == "mail:ann@x.example,bo@x.example"
    assert len(mail.outbox) == 3


def test_mail_that_fails(probe, recorder):
    """A failing mail raises smtplib's error unless it shall be silent; a killed one is not sent."""
    recorder.sink = Sink("mail")
    with pytest.raises(smtplib.SMTPServerDisconnected):
        mail.send_mail("Hello", "text", None, ["ann@x.example"])
    recorder.sink = Sink("mail", "before", Killed())
    with pytest.raises(Killed):
        mail.send_mail("Hello", "text", None, ["ann@x.example"], fail_silently=True)
    assert mail.outbox == []


def test_cache(probe, recorder):
    """Writes to the cache are effects, and their values state."""
    cache.clear()
    cache.set("old", 1)
    cache.set("gone", 1)
    recorder.sink = sink = Sink()
    assert cache.add("lock", "me", 60)
    assert not cache.add("lock", "you", 60)
    cache.set_many({"a": 1, "b": 2})
    cache.incr("old")
    cache.delete("gone")
    cache.set("temporary", 1)
    cache.delete("temporary")
    cache.get_or_set("made", lambda: 5)
    assert sink.labels == [
        "cache add lock", "cache add lock", "cache set a", "cache set b", "cache incr old", "cache delete gone",
        "cache set temporary", "cache delete temporary", "cache add made",
    ]  # fmt: skip
    assert sink.effects[0].target == "cache:lock"
    assert all(effect.safe and effect.kind == "cache" for effect in sink.effects)
    found = probe.read(frozenset())[0]
    assert found["cache:lock expires"] == "yes"
    assert 0 < found["cache:lock expires"].left <= 60 < found["cache:a expires"].left
    assert {subject: value for subject, value in found.items() if not subject.endswith(" expires")} == {
        "cache:lock": "me", "cache:a": 1, "cache:b": 2, "cache:old": 2, "cache:gone": DELETED, "cache:made": 5,
    }  # fmt: skip


def test_a_kill_before_a_cache_write(probe, recorder):
    """A worker killed before it takes a lock has not taken it."""
    caches["default"].clear()
    recorder.sink = Sink("cache add", "before", Killed())
    with pytest.raises(Killed):
        cache.add("lock", 1)
    assert cache.get("lock") is None


def test_remove_restores():
    """After `remove` Django is as it was."""
    owners = [
        CursorWrapper, BaseDatabaseWrapper, transaction.Atomic, transaction, mail.EmailMessage, EmailBackend, LocMemCache,
    ]  # fmt: skip
    before = [dict(vars(owner)) for owner in owners]
    probe = DjangoProbe()
    probe.install(Recorder())
    probe.refresh()
    assert all(dict(vars(owner)) != old for owner, old in zip(owners, before, strict=True))
    probe.remove()
    assert [dict(vars(owner)) for owner in owners] == before
    assert available()
