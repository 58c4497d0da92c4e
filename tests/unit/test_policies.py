"""What is said of retry policies, and which values count as passed through."""

import pytest

from pytest_jobs.between import stuck
from pytest_jobs.policies import retry_notes
from pytest_jobs.records import Effect
from pytest_jobs.world import Finding, Outcome, World

DOWN, LOCKED = "ConnectionError('down')", "OperationalError('database is locked')"


def world(*attempts, injected=(), task="shop.charge", gave_up=False):
    """A world in which one job had these attempts."""
    return World({}, outcomes=(Outcome(task, 1, attempts, attempts[-1][0], injected=injected, gave_up=gave_up),))


RETRIES = world(("retried", DOWN), ("succeeded", None), injected=(DOWN,))
GIVES_UP = world(("succeeded", None), injected=(LOCKED,), gave_up=True)
FINE = world(("succeeded", None))


def test_one_error_is_retried_and_another_is_not():
    """Whoever thought of retries meant the other transient errors too, mostly."""
    runs = [("POST …/charges", RETRIES), ("COMMIT", GIVES_UP), ("UPDATE orders", GIVES_UP), ("COMMIT", GIVES_UP)]
    assert retry_notes(FINE, runs) == ("charge is not retried after OperationalError, as it is after other errors: COMMIT, UPDATE orders",)


def test_many_places_are_cut():
    """Three, and how many more."""
    runs = [("POST …/charges", RETRIES), *((f"call {number}", GIVES_UP) for number in range(5))]
    assert retry_notes(FINE, runs)[0].endswith(": call 0, call 1, call 2 and 2 more")


@pytest.mark.parametrize(
    "runs",
    [
        [("COMMIT", GIVES_UP)],
        [("POST …/charges", RETRIES)],
        [("POST …/charges", RETRIES), ("COMMIT", world(("succeeded", None), injected=(LOCKED,), task="shop.ship", gave_up=True))],
        [("POST …/charges", RETRIES), ("POST …/charges", world(("retried", DOWN), ("succeeded", None), injected=(DOWN, DOWN), gave_up=True))],
        [("POST …/charges", RETRIES), ("COMMIT", world(("succeeded", None), injected=(LOCKED,)))],
    ],
)
def test_nothing_is_said(runs):
    """A task that retries nothing, one that retries all, another task, one that gave up at the end, one that answers the error itself."""
    assert retry_notes(FINE, runs) == ()


@pytest.mark.parametrize(("error", "said"), [("KeyError('x')", ("charge is retried after KeyError, which no retry repairs",)), (DOWN, ())])
def test_an_error_that_no_retry_repairs(error, said):
    """Bugs and bad data are the same at the next attempt."""
    assert retry_notes(world(("retried", error), ("failed", error)), []) == said


def between(subject, once, now, kind, target, detail, later=()):
    """Judge one difference against one effect of the undisturbed run."""
    return stuck(Finding("state", subject, once, now), [Effect(kind, target, "UPDATE", True, detail=detail)], later)


@pytest.mark.parametrize(
    ("subject", "now", "kind", "target", "detail", "found"),
    [
        ("orders.status", "'processing'", "sql", "orders", "'processing', 7", True),
        ("orders.status", "'processing'", "sql", "orders", "7; 'processing'", True),
        ("orders.status", "'processing'", "sql", "payments", "'processing', 7", False),
        ("orders.status", "'new'", "sql", "orders", "'processing', 7", False),
        ("orders.cents", "500", "sql", "orders", "500, 7", False),
        ("redis:order:7", "'processing'", "redis", "redis:order:7", "order:7 processing EX 60", True),
        ("redis:order:7", "'process'", "redis", "redis:order:7", "order:7 processing", False),
    ],
)
def test_a_value_that_was_only_passed_through(subject, now, kind, target, detail, found):
    """What the undisturbed run wrote on its way."""
    expected = Finding("stuck", subject, "", f"stuck at {now}") if found else Finding("state", subject, "'done'", now)
    assert between(subject, "'done'", now, kind, target, detail) == expected


def test_a_late_delivery_that_goes_back_is_not_stuck():
    """The run came to the end, and somebody wrote the value of the middle after that."""
    done = [Effect("sql", "orders", "UPDATE", True, detail="'done', 7")]
    found = between("orders.status", "'done'", "'processing'", "sql", "orders", "'processing', 7", done)
    assert found == Finding("state", "orders.status", "'done'", "'processing'")
