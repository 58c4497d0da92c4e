"""The shop's tasks, each as it is often written, and once repaired."""

from functools import partial

from celery import Celery, shared_task
from django.core.cache import cache
from django.core.mail import send_mail
from django.db import IntegrityError, OperationalError, transaction
from django.db.models import F
from django.utils import timezone

from shop.models import Notice, Order, Payment

app = Celery("shop", broker="redis://localhost/0", backend="redis://localhost/1")
app.conf.task_acks_late = True
retried = {"autoretry_for": (OperationalError, OSError), "retry_backoff": True, "retry_jitter": False, "max_retries": 5}


# Rows of the ORM.


@shared_task(**retried)
def book(order_id):
    """Forget that the order may be booked already."""
    order = Order.objects.get(pk=order_id)
    Payment.objects.create(order=order, cents=order.cents)
    order.status, order.paid_at = "paid", timezone.now()
    order.save()


@shared_task(**retried)
def book_once(order_id):
    """Mark first, and only an order that is new; both or nothing."""
    with transaction.atomic():
        if Order.objects.filter(pk=order_id, status="new").update(status="paid", paid_at=timezone.now()):
            Payment.objects.create(order_id=order_id, cents=Order.objects.get(pk=order_id).cents)


# A value that is counted up.


@shared_task(**retried)
def charge_fee(order_id):
    """Add, each time."""
    Order.objects.filter(pk=order_id).update(cents=F("cents") + 100)


@shared_task(**retried)
def charge_fee_once(order_id):
    """Add in the transaction that also notes that it was done."""
    try:
        with transaction.atomic():
            Notice.objects.create(order_id=order_id)
            Order.objects.filter(pk=order_id).update(cents=F("cents") + 100)
    except IntegrityError:
        return


# Mail.


@shared_task(**retried)
def thank(order_id):
    """Send, then note that it was sent."""
    order = Order.objects.get(pk=order_id)
    if not Notice.objects.filter(order=order).exists():
        send_mail("Thank you", "It is on its way.", None, [order.customer])
        Notice.objects.get_or_create(order=order)


@shared_task(**retried)
def thank_once(order_id):
    """Note that it is being sent, then send: a mail less is better than a mail twice."""
    if Notice.objects.get_or_create(order_id=order_id)[1]:
        send_mail("Thank you", "It is on its way.", None, [Order.objects.get(pk=order_id).customer])


# The cache.


@shared_task(**retried)
def count(order_id):
    """Count how many were booked in the cache."""
    cache.add("booked", 0)
    cache.incr("booked")


@shared_task(**retried)
def count_once(order_id):
    """Write what is so, however often it was asked for."""
    cache.set("booked", Order.objects.filter(status="paid").count())


# A job that waits for a commit.


@shared_task(**retried)
def confirm(order_id):
    """Publish from within the transaction."""
    with transaction.atomic():
        Order.objects.filter(pk=order_id).update(status="confirmed")
        ship.delay(order_id)


@shared_task(**retried)
def confirm_once(order_id):
    """Publish when it is committed."""
    with transaction.atomic():
        Order.objects.filter(pk=order_id).update(status="confirmed")
        transaction.on_commit(partial(ship.delay, order_id))


@shared_task(**retried)
def ship(order_id):
    """Ship what is confirmed, as often as it is asked."""
    Order.objects.filter(pk=order_id, status="confirmed").update(status="shipped")


# A job that a hook publishes, and that does too much.


@shared_task(**retried)
def invoice(order_id):
    """Tell the child to book: the child books once for each publish."""
    with transaction.atomic():
        Order.objects.filter(pk=order_id).update(status="new")
        transaction.on_commit(partial(book.delay, order_id))


@shared_task(**retried)
def invoice_once(order_id):
    """Tell the child that knows whether it was there."""
    with transaction.atomic():
        Order.objects.filter(pk=order_id, status="open").update(status="new")
        transaction.on_commit(partial(book_once.delay, order_id))
