"""The whole texts of failures, line by line."""

from datetime import timedelta

from pytest_jobs import render, render_checks
from pytest_jobs.ignore import Ignore
from pytest_jobs.records import Effect
from pytest_jobs.verdict import Comparison, compare
from pytest_jobs.world import Finding, Outcome, Rows, World

TIMELINE = (
    render.timeline_line(timedelta(0), 1, "charge(order=7)", "killed after INSERT payments, not acked"),
    render.timeline_line(timedelta(seconds=3601), 2, "charge(order=7)", "redelivered, succeeded, acked"),
)
REPLAY = "pytest tests/test_pay.py::test_charge --jobs-schedule crash@3"
ROW = {"id": 7, "order_id": 7, "amount": 500, "updated_at": "a"}
AGAIN = {**ROW, "id": 8, "updated_at": "b"}


def payments(*rows: dict[str, object]) -> Rows:
    return Rows(("id",), rows, surrogate=True)


def check(text: str, expected: str) -> None:
    """Compare a text with the one drawn in the test, which begins after its first line break."""
    assert text.splitlines() == expected.strip("\n").splitlines()


def test_a_row_added_twice() -> None:
    """The one failure everybody meets first."""
    compared = compare(
        World({"payments": payments(ROW)}),
        World({"payments": payments({**ROW, "updated_at": "c"}, AGAIN)}),
        Ignore(["payments.updated_at"]),
    )
    check(
        render.failure(render.Failure("shop.charge", "crash@3", compared.findings, compared.ignored, TIMELINE, REPLAY)),
        """
charge is not idempotent at crash@3: payments 1 -> 2 rows

             once     now
 payments    1 row    2 rows
   #8        –        order_id=7, amount=500    <- added, the same as #7
 ignored: payments.updated_at

 00:00:00  delivery 1  charge(order=7)  killed after INSERT payments, not acked
 01:00:01  delivery 2  charge(order=7)  redelivered, succeeded, acked

Replay:  pytest tests/test_pay.py::test_charge --jobs-schedule crash@3
Fix:     https://pytest-jobs.readthedocs.io/failures#state
""",
    )


def test_several_findings_worst_first() -> None:
    """One failure with the evidence of each, the same one at other schedules folded, and what was not tried."""
    sent = Effect(
        "http", "http:POST https://pay.example/charges", "POST", detail='{"amount": 500}', where="shop/pay.py:12"
    )
    order = Rows(("id",), ({"id": 7, "status": "paid"},))
    once = World({"orders": order}, (sent,), (Outcome("shop.charge", 1, (("succeeded", "ok"),), "succeeded"),))
    now = World(
        {"orders": Rows(("id",), ({"id": 7, "status": "new"},))},
        (sent, sent),
        (Outcome("shop.charge", 1, (("killed", "None"), ("succeeded", "late")), "succeeded"),),
    )
    found = compare(once, now, Ignore([])).findings
    check(
        render.failure(
            render.Failure(
                "shop.charge", "crash@3", (*found, found[0]), (), TIMELINE, REPLAY,
                ("12 more schedules were not tried (jobs_max_schedules).",), ("crash@4", "crash@5", "crash@9"),
            )
        ),
        """
charge is not idempotent at crash@3: POST …/charges 1 -> 2 requests (+2 more)

                                     once               now
 POST https://pay.example/charges    1 request          2 requests
   1.                                {"amount": 500}    {"amount": 500}
   2.                                –                  {"amount": 500}    <- added at shop/pay.py:12
 orders                              1 row              1 row
   #7 status                         'paid'             'new'
 result of charge                    'ok'               'late'

 00:00:00  delivery 1  charge(order=7)  killed after INSERT payments, not acked
 01:00:01  delivery 2  charge(order=7)  redelivered, succeeded, acked

Replay:  pytest tests/test_pay.py::test_charge --jobs-schedule crash@3
Fix:     https://pytest-jobs.readthedocs.io/failures#effect
The same at 3 more schedules: crash@4, crash@5, crash@9
12 more schedules were not tried (jobs_max_schedules).
""",
    )  # fmt: skip


def test_the_tests_own_assertion() -> None:
    """Nothing to lay out in columns: the message says it."""
    finding = Finding("test", "the test", "passes", "assert 2 == 1")
    check(
        render.failure(
            render.Failure("shop.charge", "twice", (finding,), (), TIMELINE[1:], "pytest x --jobs-schedule twice")
        ),
        """
charge is not idempotent at twice: the test fails: assert 2 == 1

 01:00:01  delivery 2  charge(order=7)  redelivered, succeeded, acked

Replay:  pytest x --jobs-schedule twice
Fix:     https://pytest-jobs.readthedocs.io/failures#test
""",
    )


def test_a_lost_job() -> None:
    """What became of it stands in line one."""
    once = World({}, outcomes=(Outcome("shop.charge", 1, (("succeeded", 1),), "succeeded"),))
    now = World(
        {}, outcomes=(Outcome("shop.charge", 1, (), "lost"),), left=("charge is lost: acknowledged before it ran",)
    )
    check(
        render.failure(render.Failure("shop.charge", "crash@3", compare(once, now, Ignore([])).findings)),
        """
charge is not idempotent at crash@3: lost: acknowledged before it ran

           once         now
 charge    succeeded    lost

Fix:     https://pytest-jobs.readthedocs.io/failures#lost
""",
    )


def test_watched_values() -> None:
    """A list that grew, an entry that changed, a file with another line, a lock left behind."""
    mail = {"to": "ann", "subject": "Hi"}
    once = {"outbox": [mail], "stock": {"pen": 3}, "file:out.txt": "the first line of it\nthe second line of it\n"}
    now = {
        "outbox": [mail, mail], "stock": {"pen": 2}, "redis:lock:7": b"1",
        "file:out.txt": "the first line of it\nthe other line of it\n",
    }  # fmt: skip
    check(
        render.failure(render.Failure("shop.charge", "late@1", compare(World(once), World(now), Ignore([])).findings)),
        """
charge is not idempotent at late@1: outbox 1 -> 2 items (+3 more)

                 once                       now
 outbox          1 item                     2 items
   item          –                          {'to': 'ann', 'subject': 'Hi'}    <- added
 stock           1 entry                    1 entry
   pen           3                          2
 file:out.txt    43 characters              42 characters
   line 2        'the second line of it'    'the other line of it'
 redis:lock:7    –                          b'1'                              <- added

Fix:     https://pytest-jobs.readthedocs.io/failures#state
""",
    )


def test_irreproducible() -> None:
    """Said as that, with the way out."""
    compared = compare(World({"payments": payments(ROW)}), World({"payments": payments(ROW, AGAIN)}), Ignore([]))
    check(
        render.irreproducible("test_charge", compared),
        """
two undisturbed runs of test_charge differ: payments 1 -> 2 rows, so nothing was compared

             first run    second run
 payments    1 row        2 rows
   #8        –            order_id=7, amount=500, …    <- added

The test must do the same each time before a difference can mean anything:
  - a value that may differ: @pytest.mark.idempotent(ignore=['payments'])
  - random values: seed them in a fixture
  - what an earlier run left behind: make it in a function-scoped fixture, fresh for each run

Fix:     https://pytest-jobs.readthedocs.io/failures#irreproducible
""",
    )


def test_irreproducible_failures() -> None:
    """A test that fails in its first run only says why in full."""
    why = "setup fails: OSError: [Errno 28] No space left on device: '/srv/shop/receipts'"
    check(
        render.irreproducible("test_charge", Comparison((Finding("test", "the test", "passes", why),))),
        """
two undisturbed runs of test_charge differ: the test fails: setup fails: OSError: […, so nothing was compared

 setup fails: OSError: [Errno 28] No space left on device: '/srv/shop/receipts'

The test must do the same each time before a difference can mean anything:
  - random values: seed them in a fixture
  - what an earlier run left behind: make it in a function-scoped fixture, fresh for each run

Fix:     https://pytest-jobs.readthedocs.io/failures#irreproducible
""",
    )


def test_delays() -> None:
    """The whole schedule in two columns."""
    check(
        render_checks.delays("shop.send_email", [30, 60, 120, 240], [30, 60, 130.5]),
        """
send_email does not wait as expected: 4 retries expected, 3 made

            expected    actual
 delay 1    30 s        30 s
 delay 2    60 s        60 s
 delay 3    120 s       130.5 s    <- differs
 delay 4    240 s       –          <- missing

Fix:     https://pytest-jobs.readthedocs.io/failures#delays
""",
    )
    check(
        render_checks.delays("shop.send_email", [30, 60], [29, 67, 1], 0.1),
        """
send_email does not wait as expected: 2 retries expected, 3 made

            expected      actual
 delay 1    27 to 33 s    29 s
 delay 2    54 to 66 s    67 s      <- differs
 delay 3    –             1 s       <- one too many
 jitter: each within ± 10 %

Fix:     https://pytest-jobs.readthedocs.io/failures#delays
""",
    )


def test_runaway() -> None:
    """The loop, and what would come next."""
    check(
        render.runaway(
            "1,000 deliveries of one job in one call",
            "shop.send",
            12,
            TIMELINE,
            ["shop.send due now, after 9 attempts"],
        ),
        """
send does not come to rest: 1,000 deliveries of one job in one call

The loop:
 00:00:00  delivery 1  charge(order=7)  killed after INSERT payments, not acked
 01:00:01  delivery 2  charge(order=7)  redelivered, succeeded, acked

Still scheduled: 12 jobs
  shop.send due now, after 9 attempts
  and 11 more

Fix:     https://pytest-jobs.readthedocs.io/failures#runaway
""",
    )


def test_no_job() -> None:
    """A marked test that proves nothing says so."""
    check(
        render.no_job("test_charge"),
        """
test_charge is marked idempotent, but no job ran in it: nothing was delivered twice, so nothing was proved.
Publish a job in the test (task.delay(…) or jobs.run(task, …)), or take the marker off.
Fix:     https://pytest-jobs.readthedocs.io/failures#no-job
""",
    )
