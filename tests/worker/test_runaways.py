"""Jobs that never come to rest."""

from datetime import timedelta

import pytest
from celery import Celery

from pytest_jobs import RunawayJobs, hosting, worker


@pytest.fixture
def add(app):
    @app.task(shared=False)
    def add(a, b):
        return a + b

    return add


def test_an_endless_retry_ends_in_an_error_that_shows_it(world, app, monkeypatch):
    """A runaway says what keeps it going."""

    @app.task(shared=False, bind=True, max_retries=None)
    def forever(self):
        raise self.retry(countdown=1)

    assert worker.MOST_OF_ONE_JOB == 1_000
    monkeypatch.setattr(worker, "MOST_OF_ONE_JOB", 50)
    with pytest.raises(RunawayJobs) as caught:
        world.run(forever)
    told = str(caught.value).splitlines()
    assert told[:4] == ["forever does not come to rest: 50 deliveries of one job in one call", "", "The loop:", told[3]]
    assert told[3:8] == [
        f" 00:00:{number - 1:02}  delivery {number}  forever()  retry {number - 1}, retried, acked" for number in range(45, 50)
    ]
    assert told[-1] == "Fix:     https://pytest-jobs.readthedocs.io/failures#runaway"


def test_an_eta_beyond_the_visibility_timeout_is_said_to_be_one(world, monkeypatch):
    """What Redis brings back every hour is no loop of the project's."""
    app = Celery("shop", broker="redis://localhost/0", set_as_current=False)

    @app.task(shared=False)
    def remind():
        """Never get that far."""

    remind.apply_async(countdown=20 * 86400)
    monkeypatch.setattr(worker, "MOST_OF_ONE_JOB", 200)
    with pytest.raises(RunawayJobs, match="came back 200 times while it waited: the visibility timeout is shorter"):
        world.settle()


def test_jobs_that_publish_themselves_end_in_an_error(world, monkeypatch):
    """Ten thousand deliveries in one call are a runaway; five hundred are the test's stand-in."""
    assert hosting.MOST_DELIVERIES == worker.MOST_DELIVERIES == 10_000
    for module in (hosting, worker):
        monkeypatch.setattr(module, "MOST_DELIVERIES", 500)
    app = Celery("shop", broker="memory://localhost/", set_as_current=False)

    @app.task(shared=False)
    def loop():
        loop.delay()

    with pytest.raises(RunawayJobs, match="loop does not come to rest: 500 deliveries in one call"):
        world.run(loop)


def test_settle_has_a_limit(world, add):
    """Something due beyond the limit is said."""
    add.apply_async((1, 2), countdown=7200)
    with pytest.raises(RunawayJobs, match="beyond the limit"):
        world.settle(limit=timedelta(hours=1))
