"""Time limits in virtual time, and the pools that do not keep them."""

import time

import pytest
from billiard.exceptions import TimeLimitExceeded
from celery import VERSION, Celery
from celery.exceptions import SoftTimeLimitExceeded

from pytest_jobs import JobsWarning, in_process_worker


def make(**conf):
    """Make an app with a task that sleeps, and what it did."""
    app = Celery("limits", broker="memory://localhost/", backend="cache+memory://", set_as_current=False)
    app.conf.update(conf)
    done = []

    @app.task(name="slow", shared=False, soft_time_limit=10, time_limit=20)
    def slow(stubborn=False):
        started = time.time()
        try:
            time.sleep(60)
        except SoftTimeLimitExceeded:
            done.append(("soft", time.time() - started))
            if not stubborn:
                raise
            time.sleep(60)
        done.append(("end", time.time() - started))

    app.slow, app.done = slow, done
    return app


@pytest.fixture
def app():
    """An app whose pool is prefork."""
    return make()


def test_a_sleep_across_the_soft_limit_raises_there(app):
    """The exception comes out of the sleep, ten seconds after the body began."""
    with in_process_worker(app) as jobs:
        job = jobs.run(app.slow)
        assert (job.state, app.done) == ("failed", [("soft", 10)])
        assert isinstance(job.error, SoftTimeLimitExceeded)


def test_a_task_that_goes_on_is_killed_at_the_hard_limit(app):
    """Twenty seconds after the body began, not after the soft limit."""
    with in_process_worker(app) as jobs:
        job = jobs.run(app.slow, stubborn=True)
        assert [attempt.outcome for attempt in job.attempts] == ["timed out"]
        assert isinstance(job.error, TimeLimitExceeded)
        assert jobs.clock.elapsed.total_seconds() == 20
        assert app.done == [("soft", 10)]


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    ("setting", "outcome", "after"), [("task_soft_time_limit", "failed", 10), ("task_time_limit", "timed out", 20)]
)
def test_limits_of_the_configuration(setting, outcome, after, inside):
    """They hold for tasks without limits, also when they are set after the tasks are made; the task's and the message's come first."""
    app = make()

    @app.task(shared=False)
    def unlimited():
        time.sleep(60)

    app.finalize()
    assert unlimited.time_limit is None
    app.conf.update({} if inside else {setting: after})
    with in_process_worker(app) as jobs:
        app.conf.update({setting: after})
        job = jobs.run(unlimited)
        assert ([attempt.outcome for attempt in job.attempts], jobs.clock.elapsed.total_seconds()) == ([outcome], after)
        jobs.run(unlimited.s().set(soft_time_limit=2, time_limit=4))
        assert jobs.clock.elapsed.total_seconds() == after + 2
        jobs.run(app.slow)
        assert jobs.clock.elapsed.total_seconds() == after + 2 + 10


@pytest.mark.parametrize(
    ("flags", "outcomes"),
    [
        ({}, ["timed out"]),
        ({"task_acks_late": True}, ["timed out"]),
        # Before 5.5 it is rejected without requeue.
        (
            {"task_acks_late": True, "task_acks_on_failure_or_timeout": False},
            ["timed out", "succeeded"] if VERSION >= (5, 5) else ["timed out"],
        ),
    ],
    ids=["early", "late", "late, not acknowledged on timeout"],
)
def test_the_hard_limit_acknowledges_by_the_flags(flags, outcomes):
    """What is not acknowledged comes again, marked as redelivered."""
    app = make(**flags)
    sleeps = [60, 1]

    @app.task(name="once", shared=False, time_limit=20)
    def once():
        time.sleep(sleeps.pop(0))

    with in_process_worker(app) as jobs:
        job = jobs.run(once)
        assert [attempt.outcome for attempt in job.attempts] == outcomes
        assert [attempt.redelivered for attempt in job.attempts] == [False, True][: len(outcomes)]
        assert job.state == ("succeeded" if len(outcomes) == 2 else "failed")


def test_limits_of_the_message_come_before_those_of_the_task(app):
    """`apply_async(soft_time_limit=…)`."""
    with in_process_worker(app) as jobs:
        app.slow.apply_async(soft_time_limit=5, time_limit=30)
        assert jobs.settle().one.failed
        assert app.done == [("soft", 5)]


@pytest.mark.parametrize("pool", ["solo", "threads", "eventlet", "celery.concurrency.solo:TaskPool"])
def test_a_pool_that_keeps_no_limits_is_named(pool):
    """The sleep goes on as it would in production, and a warning says why."""
    app = make(worker_pool=pool)
    name = "solo" if "solo" in pool else pool
    with in_process_worker(app) as jobs:
        with pytest.warns(JobsWarning, match=rf"slow has a time limit, but worker_pool is {name}, which keeps none; prefork keeps both"):
            job = jobs.run(app.slow)
        assert (job.state, app.done) == ("succeeded", [("end", 60)])
        jobs.run(app.slow)


def test_gevent_keeps_the_hard_limit():
    """The soft one never strikes."""
    app = make(worker_pool="gevent")
    with in_process_worker(app) as jobs:
        with pytest.warns(JobsWarning, match=r"worker_pool is gevent, which keeps only the hard one"):
            job = jobs.run(app.slow)
        assert [attempt.outcome for attempt in job.attempts] == ["timed out"]
        assert app.done == []


def test_a_hang_in_such_a_pool_is_for_ever():
    """The error names the pool."""
    app = make(worker_pool="solo")
    with in_process_worker(app) as jobs:
        jobs.hang(app.slow)
        with pytest.raises(AssertionError, match=r"slow hangs for ever at jobs.hang\(slow\): the pool solo ignores its time limit"):
            jobs.run(app.slow)
