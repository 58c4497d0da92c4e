"""A marked test whose job is dropped because its retry could not be published."""

import pytest

SHOP = """
from celery import Celery

app = Celery("shop", broker="memory://localhost/", backend="cache+memory://", set_as_current=False)

@app.task(bind=True, shared=False, max_retries=3)
def send(self):
    try:
        reach()
    except ConnectionError as error:
        raise self.retry(exc=error, countdown=10)

def reach():
    pass
"""
HEAD = """
import pytest, shop

@pytest.fixture
def down(jobs, monkeypatch):
    def reach():
        jobs.outage("broker", times=20)
        raise ConnectionError("down")

    monkeypatch.setattr(shop, "reach", reach)

"""


@pytest.fixture
def run(suite):
    """Run a test of a task that reaches nobody, and then not the broker either."""
    suite.module(shop=SHOP)

    def run(mark):
        suite.test(f"{mark}\ndef test_send(jobs, down):\n    jobs.run(shop.send)\n", HEAD)
        return suite.run()

    return run


def test_a_dropped_retry_is_a_finding(run):
    """It is lost in the undisturbed run already, so no comparison would show it."""
    result = run("@pytest.mark.idempotent")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E   AssertionError: send is lost: its retry could not be published",
            "E    00:00:00  delivery 1  send()  retry lost after reject *, acked",
            "E   self.retry() publishes a new message. *",
            "E            https://pytest-jobs.readthedocs.io/failures#lost",
        ]
    )


def test_a_job_that_may_be_lost(run):
    """`ignore` accepts it."""
    run('@pytest.mark.idempotent(ignore=["lost"])').assert_outcomes(passed=1)


def test_without_the_marker_it_is_only_lost(run):
    """The test asks what it wants to know."""
    run("").assert_outcomes(passed=1)
