"""Rate limits in virtual time, as Celery's token bucket keeps them; priorities; queues apart."""

import kombu
import pytest
from celery import Celery

from pytest_jobs import in_process_worker

URLS = {"memory": ("memory://localhost/", "cache+memory://"), "redis": ("redis://localhost:6399/0", "redis://localhost:6399/1")}


@pytest.fixture(params=["memory", "redis"])
def app(request):
    """An app with a task that may run ten times a minute, and one that may always."""
    broker, backend = URLS[request.param]
    app = Celery("rates", broker=broker, backend=backend, set_as_current=False)
    app.ran = []

    @app.task(name="limited", shared=False, rate_limit="10/m")
    def limited(number=0):
        app.ran.append(("limited", number))
        return number

    @app.task(name="late", shared=False, rate_limit="1/h", acks_late=True)
    def late(number=0):
        app.ran.append(("late", number))

    @app.task(name="free", shared=False)
    def free():
        app.ran.append("free")

    app.limited, app.late, app.free = limited, late, free
    return app


def starts(jobs):
    """Return when the jobs began, in whole seconds since the world did."""
    return [int((job.attempts[0].started_at - jobs[0].published_at).total_seconds()) for job in jobs]


def test_a_rate_limit_spreads_the_jobs(app):
    """Ten a minute are one each six seconds, in their order."""
    with in_process_worker(app) as jobs:
        for number in range(5):
            app.limited.delay(number)
        assert len(jobs.drain()) == 1
        assert len(jobs.pending) == 4
        jobs.settle()
        assert starts(jobs.all) == [0, 6, 12, 18, 24]
        assert app.ran == [("limited", number) for number in range(5)]


def test_a_message_limit_holds_back_nobody_else(app):
    """Each task has a bucket of its own."""
    with in_process_worker(app) as jobs:
        app.limited.delay()
        app.limited.delay()
        app.free.delay()
        assert [job.name for job in jobs.drain()] == ["limited", "free"]


def test_rate_limits_can_be_turned_off(app):
    """`worker_disable_rate_limits`, as in production."""
    app.conf.worker_disable_rate_limits = True
    with in_process_worker(app) as jobs:
        for number in range(5):
            app.limited.delay(number)
        jobs.settle()
        assert starts(jobs.all) == [0] * 5


def test_a_countdown_and_then_the_limit(app):
    """What becomes due at one instant is spread from there; before kombu 5.7 a bucket that lay idle lets two through."""
    with in_process_worker(app) as jobs:
        for number in range(3):
            app.limited.apply_async((number,), countdown=60)
        jobs.settle()
        assert sorted(starts(jobs.all)) == ([60, 66, 72] if kombu.VERSION >= (5, 7) else [60, 60, 66])


def test_what_waits_for_its_rate_ages_on_redis(app):
    """One an hour, acknowledged late: the second waits longer than the visibility timeout, and runs twice."""
    app.conf.broker_transport_options = {"visibility_timeout": 1800}
    with in_process_worker(app) as jobs:
        app.late.delay(1)
        app.late.delay(2)
        jobs.advance(3 * 3600)
        assert (len(jobs.all[1].attempts) > 1) is app.conf.broker_url.startswith("redis")
        assert jobs.all[1].succeeded


def test_each_schedule_still_strikes_a_limited_task(app):
    """A second delivery comes when its rate allows, an overlapping one at once: it is another worker's."""
    with in_process_worker(app) as jobs:
        assert len(jobs.deliver(app.limited, 1, schedule="twice").attempts) == 2
        overlapped = jobs.deliver(app.limited, 2, schedule="overlap@1")
        assert [attempt.started_at for attempt in overlapped.attempts] == [overlapped.attempts[0].started_at] * 2


def test_a_worker_that_dies_forgets_its_bucket(app):
    """What it held comes again."""
    with in_process_worker(app) as jobs:
        app.limited.delay(1)
        app.limited.delay(2)
        jobs.drain()
        jobs.shutdown("warm")
        jobs.drain()
        assert [number for _, number in app.ran] == [1, 2]


def test_a_scheduled_job_is_delivered_twice_too(app):
    """Also when nothing else is due after it."""
    with in_process_worker(app) as jobs:
        job = jobs.deliver(app.free.s().set(countdown=60), schedule="twice")
        assert app.ran == ["free", "free"]
        assert [attempt.redelivered for attempt in job.attempts] == [False, True]


def test_a_shutdown_during_a_scheduled_job(app):
    """The worker stops after it."""
    stopped = []

    @app.task(name="stops", shared=False)
    def stops():
        jobs.shutdown("warm")
        stopped.append(len(jobs._session.queue._workers))

    with in_process_worker(app) as jobs:
        stops.apply_async(countdown=60)
        jobs.settle()
        assert (stopped, jobs._session.queue._workers) == ([1], {})
