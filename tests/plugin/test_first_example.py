"""The example every user tries first, word by word."""

SHOP = """
from types import SimpleNamespace

from celery import Celery

app = Celery("shop", broker="redis://redis.internal/0", set_as_current=False)
sent = []
gateway = SimpleNamespace(send=lambda user_id, template: sent.append((user_id, template)))


class TransientError(Exception):
    pass


class PermanentError(Exception):
    pass


@app.task(bind=True, max_retries=5, shared=False)
def send_email(self, user_id, template):
    try:
        gateway.send(user_id, template)
    except TransientError as exc:
        raise self.retry(exc=exc, countdown=30 * 2 ** self.request.retries)
"""
TESTS = """
import pytest

from shop import PermanentError, TransientError, send_email, sent


@pytest.fixture
def outbox():
    sent.clear()
    return sent


def test_gives_up_after_five(jobs):
    jobs.fail("shop.gateway.send", TransientError("503"))
    job = jobs.run(send_email, 7, "welcome")
    assert job.dead and len(job.attempts) == 6
    jobs.check_delays(job, [30, 60, 120, 240, 480])

def test_permanent_is_not_retried(jobs):
    jobs.fail("shop.gateway.send", PermanentError("404"))
    assert len(jobs.run(send_email, 7, "welcome").attempts) == 1

@pytest.mark.idempotent
def test_one_mail_only(jobs, outbox):
    jobs.watch(outbox)
    jobs.run(send_email, 7, "welcome")
"""


def test_the_first_example(suite):
    """The retries are as they should be; the second mail of a second delivery is found, and shown."""
    suite.module(shop=SHOP)
    suite.test(TESTS, head="")
    result = suite.run()
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines([
        "E   AssertionError: send_email is not idempotent at twice: outbox 1 -> 2 items",
        "E   ",
        "E              once      now",
        "E    outbox    1 item    2 items",
        "E      item    –         (7, 'welcome')    <- added",
        "E   ",
        "E    00:00:00  delivery 1  send_email(7, 'welcome')  succeeded, acked",
        "E    00:00:00  delivery 2  send_email(7, 'welcome')  redelivered, succeeded, acked",
        "E   ",
        "E   Replay:  pytest test_shop.py::test_one_mail_only --jobs-schedule twice",
        "E   Fix:     https://pytest-jobs.readthedocs.io/failures#state",
        "",
        "test_shop.py:[0-9][0-9]: AssertionError",
    ], consecutive=True)


def test_its_repair(suite):
    """A mail that is remembered is not sent again."""
    suite.module(shop=SHOP.replace("    try:", "    if (user_id, template) in sent:\n        return\n    try:"))
    suite.test(TESTS, head="")
    suite.run().assert_outcomes(passed=3)


def test_what_would_break_the_schedule_is_found(suite):
    """The test of the delays fails with both schedules side by side when the backoff is another."""
    suite.module(shop=SHOP.replace("30 * 2", "30 * 3"))
    suite.test(TESTS, head="")
    result = suite.run(None, "-k", "five")
    result.assert_outcomes(failed=1, deselected=2)
    result.stdout.fnmatch_lines([
        "E       AssertionError: send_email does not wait as expected: delay 2 is 90 s, not 60 s*",
        "*expected    actual*",
    ])
