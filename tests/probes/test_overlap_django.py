"""Overlap in a Django project on PostgreSQL: connections of a thread's own, closed with it; commits of which nothing can use the middle."""

import pytest
from sqlalchemy.engine import make_url

SETTINGS = """
SECRET_KEY = "not secret"
USE_TZ = True
DATABASES = {{
    "default": {{
        "ENGINE": "django.db.backends.postgresql", "NAME": "postgres", "USER": "{user}", "HOST": "{host}", "TEST": {{"NAME": "{test}"}}
    }}
}}
INSTALLED_APPS = ["shop"]
MIGRATION_MODULES = {{"shop": None}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""
MODELS = """
from django.db import models


class Order(models.Model):
    status = models.CharField(max_length=10, default="new")


class Payment(models.Model):
    order = models.OneToOneField(Order, models.CASCADE)
"""
TASKS = """
from celery import Celery, shared_task
from django.db import IntegrityError, transaction
from shop.models import Order, Payment

app = Celery("shop", broker="redis://localhost/0", backend="redis://localhost/1")
app.conf.task_acks_late = True
charged = []


def charge(order):
    if order.status == "new":
        order.status = "paid"
        order.save()
        charged.append("one more")


@shared_task
def careless(order_id):
    with transaction.atomic():
        charge(Order.objects.get(pk=order_id))


@shared_task
def careful(order_id):
    with transaction.atomic():
        charge(Order.objects.select_for_update().get(pk=order_id))


@shared_task
def unique(order_id):
    try:
        with transaction.atomic():
            Payment.objects.create(order_id=order_id)
            Order.objects.filter(pk=order_id).update(status="paid")
    except IntegrityError:
        return
"""
TESTS = """
import pytest
from shop import tasks
from shop.models import Order


@pytest.fixture
def order(transactional_db):
    tasks.charged.clear()
    return Order.objects.create().pk


@pytest.mark.idempotent("overlap")
@pytest.mark.parametrize("name", ["careless", "careful"])
def test_charge(jobs, order, name):
    jobs.watch(tasks.charged)
    jobs.run(getattr(tasks, name), order)


@pytest.mark.idempotent("overlap", "twice", "crash")
def test_unique(order):
    tasks.unique.delay(order)


@pytest.mark.idempotent("overlap")
@pytest.mark.django_db
def test_in_the_tests_own_transaction():
    tasks.unique.delay(Order.objects.create().pk)
"""
INI = """[pytest]
DJANGO_SETTINGS_MODULE = settings
pythonpath = .
addopts = -p no:hypothesispytest -p no:randomly -p no:asyncio -p no:cacheprovider
"""


@pytest.mark.timeout(150)
def test_row_locks_and_unique_rows(pytester, server):
    """The careless task is found; those that wait for a row of the first one pass; so does a kill around the commit."""
    url = make_url(server("postgresql"))
    settings = SETTINGS.format(user=url.username, host=url.host, test=f"{url.database}_django")
    pytester.makepyfile(settings=settings, test_shop=TESTS)
    pytester.mkpydir("shop")
    for name, text in (("models", MODELS), ("tasks", TASKS)):
        pytester.path.joinpath("shop", f"{name}.py").write_text(text)
    pytester.path.joinpath("pytest.ini").write_text(INI)
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=1, passed=3)
    result.stdout.fnmatch_lines([
        "E   AssertionError: careless is not idempotent at overlap@?: charged 1 -> 2 items",
        "test_shop.py::test_in_the_tests_own_transaction: overlap was not tried at * points inside an open transaction: "
        "the test holds a transaction around it",
    ])
