"""What the strategies generate, how it shrinks and prints."""

from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

import pydantic
import pytest
from celery import Celery
from hypothesis import find, given, settings
from hypothesis import strategies as st
from hypothesis.vendor.pretty import pretty

from pytest_jobs import UsageError, in_process_worker, strategies
from pytest_jobs.kinds import KINDS
from pytest_jobs.schedules import parse
from pytest_jobs.strategies import args_for, failures, kwargs_for, schedules

FIXED = settings(database=None, derandomize=True, max_examples=200, deadline=None)


class Order(pydantic.BaseModel):
    """What a pydantic task takes; made here, where time is not frozen, as an application's models are."""

    number: Annotated[int, pydantic.Field(gt=2)]
    day: date


class Payment(pydantic.BaseModel):
    """One with an alias, a validator, and a limit that not every number can be compared with."""

    number: int = pydantic.Field(alias="paymentNumber", gt=0, lt=100)
    amount: Decimal = pydantic.Field(gt=0)

    @pydantic.field_validator("number")
    @classmethod
    def _even(cls, number):
        if number % 2:
            raise ValueError(f"{number} is odd")
        return number


class Kind(Enum):
    """What prints otherwise than as a call."""

    SMALL = 1


class Declined(Exception):
    """A gateway's own error."""


class Demanding(Exception):
    """An error that has to be told something."""

    def __init__(self, code):
        super().__init__(code)


@pytest.fixture
def shop():
    """An app with tasks to generate arguments for."""
    return Celery("generated", broker="memory://localhost/", backend="cache+memory://", set_as_current=False)


def test_the_module_is_a_public_name():
    """It is imported when it is first asked for."""
    assert strategies.schedules is schedules


@FIXED
@given(schedules())
def test_an_id_replays_its_schedule(schedule):
    """What is printed is what `jobs.deliver` and `--jobs-schedule` take."""
    assert parse(str(schedule)) == schedule
    assert pretty(schedule) == repr(schedule) == repr(str(schedule))
    assert len(schedule.steps) <= 2


@FIXED
@given(schedules(max_faults=4))
def test_numbers_can_be_reached_in_order(schedule):
    """What is counted together is counted upwards."""
    for together in ({"crash", "overlap"}, {"fail", "reply-lost"}, {"late"}):
        numbers = [step.at for step in schedule.steps if step.kind in together]
        assert numbers == sorted(set(numbers))


def test_schedules_shrink_towards_no_fault():
    """The simplest is `once`, then the fewest faults with the smallest numbers."""
    assert str(find(schedules(), lambda _: True, settings=FIXED)) == "once"
    assert str(find(schedules(), lambda found: found.has("crash"), settings=FIXED)) == "crash@1"
    two = find(schedules(), lambda found: found.has("fail") and found.has("crash"), settings=FIXED)
    assert str(two) in {"crash@1+fail@1", "fail@1+crash@1"}


def test_every_kind_is_drawn():
    """Each can be found, and only those that are asked for are."""
    for kind in KINDS:
        assert find(schedules(), lambda found, kind=kind: found.has(kind), settings=FIXED).kind == kind
    assert find(schedules("late", max_faults=1), lambda found: found.kind != "once", settings=FIXED).kind == "late"


def test_failures_name_what_is_raised():
    """The error is part of the id."""
    own = f"{Declined.__module__}.Declined"
    assert str(find(failures(), lambda found: found.has("fail"), settings=FIXED)) == "fail@1"
    found = find(failures(TimeoutError, Declined), lambda found: found.steps[-1].error == own, settings=FIXED)
    assert str(found) == f"fail@1:{own}"
    assert parse("fail@1:TimeoutError+fail@3").steps[0].error == "TimeoutError"


@pytest.mark.parametrize("schedule", ["fail@1:TimeoutError", "reply-lost@1:TimeoutError"])
def test_the_named_error_is_raised(shop, schedule):
    """By the call that the number names, in the place of the library's own."""
    charged = []

    @shop.task(shared=False, autoretry_for=(TimeoutError,), retry_jitter=False)
    def charge(order: int):
        Gateway.charge(charged, order)

    with in_process_worker(shop) as jobs:
        jobs.outgoing(f"{__name__}.Gateway.charge")
        job = jobs.deliver(charge, 7, schedule=schedule)
    assert [attempt.outcome for attempt in job.attempts] == ["retried", "succeeded"]
    assert isinstance(job.attempts[0].error, TimeoutError)
    assert len(charged) == (1 if schedule.startswith("fail") else 2)


class Gateway:
    """Something outside."""

    @staticmethod
    def charge(charged, order):
        """Take effect."""
        charged.append(order)


def test_arguments_come_from_annotations(shop):
    """Defaults are the simplest value of a parameter that has one."""

    @shop.task(shared=False, bind=True)
    def charge(
        task, order: Annotated[int, st.integers(1, 5)], currency: Literal["EUR", "USD"] = "USD", day: date | None = None
    ):
        return order

    simplest = find(args_for(charge), lambda _: True, settings=FIXED)
    assert simplest == (1, "USD", None)
    day = find(args_for(charge), lambda args: args[1] == "EUR" and args[2] is not None, settings=FIXED)
    assert day == (1, "EUR", date(2000, 1, 1))
    assert find(args_for(charge, order=st.just(9)), lambda _: True, settings=FIXED)[0] == 9


def test_arguments_by_name(shop):
    """For parameters that can only be given so."""

    @shop.task(shared=False)
    def charge(order: int, *, amount: float, note="paid"):
        return order

    assert find(kwargs_for(charge), lambda _: True, settings=FIXED) == {"order": 0, "amount": 0.0, "note": "paid"}
    with pytest.raises(UsageError, match=r"parameter amount can only be given by keyword; use strategies.kwargs_for"):
        args_for(charge)


def test_a_model_is_sent_as_plain_data(shop):
    """As the publisher of a pydantic task does."""

    @shop.task(shared=False, pydantic=True)
    def charge(order: Order) -> int:
        return order.number

    args = find(args_for(charge), lambda _: True, settings=FIXED)
    assert args == ({"number": 3, "day": "2000-01-01"},)
    with in_process_worker(shop) as jobs:
        assert jobs.run(charge, *args).result == 3


def test_a_model_is_sent_under_the_names_it_is_read_by(shop):
    """Aliases too; what its validators refuse is drawn again, and what cannot be compared with its limits."""

    @shop.task(shared=False, pydantic=True)
    def pay(payment: Payment) -> int:
        return payment.number

    drawn = []

    @FIXED
    @given(args_for(pay))
    def example(args):
        drawn.append(args[0])

    example()
    assert {each["paymentNumber"] % 2 for each in drawn} == {0}
    with in_process_worker(shop) as jobs:
        assert jobs.run(pay, drawn[0]).result == drawn[0]["paymentNumber"]


def test_an_argument_prints_as_itself(shop):
    """Not as what makes it plain."""

    @shop.task(shared=False)
    def charge(kind: Kind):
        return kind

    @FIXED
    @given(args=args_for(charge))
    def example(args):
        raise LookupError

    with pytest.raises(LookupError) as error:
        example()
    assert "_sent" not in "\n".join(error.value.__notes__)


def test_what_a_given_strategy_raises_is_told(shop):
    """It is an error like any other."""

    @shop.task(shared=False)
    def charge(order: int):
        return order

    with pytest.raises(ValueError, match="invalid literal"):
        find(args_for(charge, order=st.just("x").map(int)), bool, settings=FIXED)


def test_anything_with_a_model_dump_is_sent_as_plain_data(shop):
    """A model inside a list too, whoever made its class."""

    class Order:
        def model_dump(self, mode, by_alias):
            return {"mode": mode}

    @shop.task(shared=False)
    def charge(orders: Any):
        return orders

    assert find(args_for(charge, orders=st.just([Order()])), lambda _: True, settings=FIXED) == ([{"mode": "json"}],)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda task: schedules(["twice", "never"]), "strategies.schedules was given the schedule kind 'never'; allowed are"),
        (lambda task: schedules([]), "strategies.schedules was given no kinds"),
        (lambda task: schedules(max_faults=0), "was given max_faults=0; allowed is a whole number from 1"),
        (lambda task: failures(7), "strategies.failures was given 7; allowed are exception classes"),
        (lambda task: failures(Demanding), "cannot be made without arguments"),
        (lambda task: failures(type("Own", (Exception,), {})), "cannot be imported by that name"),
        (lambda task: args_for(7), "strategies.args_for was given 7; allowed is a task"),
        (lambda task: args_for(task), "parameter order has no annotation; give its strategy, order="),
        (lambda task: args_for(task, orders=st.none()), "orders=…, which is no parameter of"),
        (lambda task: parse("fail@1:NoSuchError"), "names 'NoSuchError', which is no exception that can be imported"),
        (lambda task: parse("crash@1:TimeoutError"), "is no schedule"),
    ],
)
def test_misuse(shop, make, said):
    """Each misuse is one sentence: what was given, what is allowed."""

    @shop.task(shared=False)
    def charge(order, amount: int):
        return order

    with pytest.raises(UsageError, match=said.replace("(", r"\(")):
        make(charge)


def test_annotations_that_cannot_be_read(shop):
    """A name that is not there is told."""

    @shop.task(shared=False)
    def charge(order: "Missing"):  # noqa: F821
        return order

    with pytest.raises(UsageError, match="whose annotations cannot be read: name 'Missing' is not defined"):
        args_for(charge)
