"""The texts of failures, piece by piece; whole ones are in tests/output."""

from dataclasses import dataclass
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_jobs import render
from pytest_jobs.world import Evidence, Finding

ROWS = Finding("state", "payments", "1 row", "2 rows", (Evidence("payments", "1 row", "2 rows"),))


def first(*findings: Finding, task: str = "shop.tasks.charge", schedule: str = "crash@3") -> str:
    return render.failure(render.Failure(task, schedule, findings)).split("\n")[0]


@pytest.mark.parametrize(
    ("finding", "line"),
    [
        (ROWS, "charge is not idempotent at crash@3: payments 1 -> 2 rows"),
        (
            Finding("test", "the test", "passes", "assert 2 == 1"),
            "charge is not idempotent at crash@3: the test fails: assert 2 == 1",
        ),
        (
            Finding("lost", "lost", "", "acknowledged before it ran"),
            "charge is not idempotent at crash@3: lost: acknowledged before it ran",
        ),
        (
            Finding("outcome", "result of charge", "3", "4"),
            "charge is not idempotent at crash@3: result 3 -> 4",
        ),
        (
            Finding("state", "orders", "", "2 rows changed"),
            "charge is not idempotent at crash@3: orders: 2 rows changed",
        ),
    ],
    ids=["rows", "test", "lost", "result", "changed"],
)
def test_first_lines(finding: Finding, line: str) -> None:
    """One line says which job, which schedule, what differs."""
    assert first(finding) == line


def test_a_long_subject_loses_its_middle_and_no_number() -> None:
    """Within 72 columns, with the count of further findings."""
    finding = Finding("effect", "POST https://pay.example.com/v1/customers/7/charges", "1 request", "2 requests")
    assert first(finding) == "charge is not idempotent at crash@3: POST …/charges 1 -> 2 requests"
    key = Finding("state", "redis:customer:7:lock:invoice:2026:11", "", "b'1'")
    assert first(key, ROWS) == "charge is not idempotent at crash@3: redis:cus…e:2026:11: b'1' (+1 more)"


def test_a_long_assertion_is_cut() -> None:
    """The message of the test's own assertion keeps its beginning, on one line."""
    line = first(Finding("test", "the test", "passes", "assert 'x' == 'y'\n  - y\n  + x " + "z" * 100))
    assert line.startswith("charge is not idempotent at crash@3: the test fails: assert 'x' == 'y'")
    assert len(line) < 90


@given(st.text(), st.text(), st.text(), st.text(min_size=1), st.sampled_from(["state", "test", "lost", "left"]))
def test_the_first_line_is_one_short_line(task: str, subject: str, once: str, now: str, rule: str) -> None:
    """Whatever it is made of."""
    line = first(Finding(rule, subject, once[:24], now), task=task[:20].replace("\n", " "))
    assert len(line) < 150


def test_columns_are_aligned_and_absence_is_a_dash() -> None:
    """Two columns with their heads; a label without values stands alone."""
    evidence = [
        Evidence("orders", "1 row", "1 row"),
        Evidence("#1", "", "", depth=1),
        Evidence("status", "'paid'", "'new'", depth=2),
        Evidence("#2", "", "sum=3", "added", depth=1),
    ]
    assert render.evidence_table(evidence) == [
        "               once      now",
        " orders        1 row     1 row",
        "   #1",
        "     status    'paid'    'new'",
        "   #2          –         sum=3    <- added",
    ]
    assert render.evidence_table([]) == []


@pytest.mark.parametrize(
    ("elapsed", "clock"),
    [
        (timedelta(0), "00:00:00"),
        (timedelta(hours=1, seconds=1.9), "01:00:01"),
        (timedelta(days=2, hours=3), "2d 03:00:00"),
        (timedelta(seconds=-1), "00:00:00"),
    ],
    ids=["zero", "hour", "days", "negative"],
)
def test_elapsed_time(elapsed: timedelta, clock: str) -> None:
    """Days only when there are some."""
    line = render.timeline_line(elapsed, 1, "charge(order=7)", "succeeded, acked")
    assert line == f"{clock}  delivery 1  charge(order=7)  succeeded, acked"


def test_long_arguments_are_shortened() -> None:
    """A line stays readable, and its end is kept."""
    line = render.timeline_line(timedelta(0), 1, f"charge({'x' * 500})", "killed after INSERT payments, not acked")
    assert len(line) <= 100
    assert line.endswith("xx…)  killed after INSERT payments, not acked")
    assert render.timeline_line(timedelta(0), 0, "worker", "restarted") == "00:00:00  worker  restarted"


@dataclass
class Armed:
    plan: str
    reached_late: int = 0
    hint: str = ""
    fired: int = 0


def test_unfired_faults() -> None:
    """A sentence each: nobody came, or too late."""
    never = Armed("jobs.fail('shop.send', TransientError('503'), times=2)", hint="shop.tasks holds its own name for it")
    late = Armed("jobs.crash('#charged')", reached_late=1)
    assert render.unfired([never, late]).splitlines() == [
        "2 faults never fired, so the test does not test what it says:",
        (
            "jobs.fail('shop.send', TransientError('503'), times=2) never fired: no job reached it. "
            "Shop.tasks holds its own name for it."
        ),
        (
            "jobs.crash('#charged') never fired: a job reached it once, but only after it was disarmed: "
            "run the job inside its with block."
        ),
        "Fix:     https://pytest-jobs.readthedocs.io/failures#unfired",
    ]
