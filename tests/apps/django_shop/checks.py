"""The shop's own tests, in a test's transaction and with real commits: only the marker says what is compared."""

import pytest
from django.core.cache import cache
from django.db import transaction
from shop import tasks
from shop.models import Order

DB = pytest.param("db", marks=pytest.mark.django_db)
TRANSACTIONAL_DB = pytest.param("transactional_db", marks=pytest.mark.django_db(transaction=True))
in_both = pytest.mark.parametrize("place", [DB, TRANSACTIONAL_DB])
inside = pytest.mark.parametrize("place", [DB])
outside = pytest.mark.parametrize("place", [TRANSACTIONAL_DB])


@pytest.fixture
def order(place, _django_db_helper):
    cache.clear()
    return Order.objects.create(customer="ann@x.example").pk


@in_both
@pytest.mark.idempotent("twice", "late")
def test_broken_rows(order):
    tasks.book.delay(order)


@in_both
@pytest.mark.idempotent("all")
def test_repaired_rows(order):
    tasks.book_once.delay(order)


@outside
@pytest.mark.idempotent("twice")
def test_broken_counter(order):
    tasks.charge_fee.delay(order)


@inside
@pytest.mark.idempotent("twice", "overlap")
def test_repaired_counter(order):
    tasks.charge_fee_once.delay(order)


@inside
@pytest.mark.idempotent("crash")
def test_broken_mail(order):
    tasks.thank.delay(order)


@inside
@pytest.mark.idempotent("twice", "late", "overlap")
def test_repaired_mail(order):
    tasks.thank_once.delay(order)


@inside
@pytest.mark.idempotent("twice")
def test_broken_cache(order):
    tasks.count.delay(order)


@inside
@pytest.mark.idempotent("twice", "crash")
def test_repaired_cache(order):
    tasks.count_once.delay(order)


@in_both
@pytest.mark.idempotent("twice")
def test_broken_early(order):
    tasks.confirm.delay(order)


@in_both
@pytest.mark.idempotent("twice", "crash")
def test_repaired_early(order):
    tasks.confirm_once.delay(order)


@in_both
@pytest.mark.idempotent("twice")
def test_broken_child(order):
    tasks.invoice.delay(order)


@in_both
@pytest.mark.idempotent("twice")
def test_repaired_child(order):
    tasks.invoice_once.delay(order)


@in_both
@pytest.mark.idempotent("twice")
def test_broken_view(order):
    with transaction.atomic():
        tasks.ship.delay(order)
        Order.objects.filter(pk=order).update(status="confirmed")


@in_both
@pytest.mark.idempotent("twice")
def test_repaired_view(order, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
        tasks.ship.delay_on_commit(order)
        Order.objects.filter(pk=order).update(status="confirmed")
