"""The four ways a worker is stopped, between and during jobs, and what each leaves in the broker."""

import time

import pytest
from celery import VERSION, Celery

from pytest_jobs import UsageError, in_process_worker

URLS = {"memory": ("memory://localhost/", "cache+memory://"), "redis": ("redis://localhost:6399/0", "redis://localhost:6399/1")}
HOWS = ["warm", "soft", "cold", "kill"] if VERSION >= (5, 5) else ["warm", "cold", "kill"]


@pytest.fixture(params=["memory", "redis"])
def shop(request):
    """An app whose tasks call `act`, then sleep for a minute, and a world for it."""
    broker, backend = URLS[request.param]
    app = Celery("shutdown", broker=broker, backend=backend, set_as_current=False)

    class Shop:
        kind = request.param
        act = staticmethod(lambda: None)

    Shop.done = []

    def body(name):
        Shop.act()
        time.sleep(60)
        Shop.done.append(name)
        return name

    @app.task(name="early", shared=False)
    def early():
        return body("early")

    @app.task(name="late", shared=False, acks_late=True)
    def late():
        return body("late")

    Shop.app, Shop.early, Shop.late = app, early, late
    with in_process_worker(app) as jobs:
        Shop.jobs = jobs
        yield Shop


def once(shop, how):
    """Stop the worker so in the first run only."""

    def first():
        shop.act = lambda: None
        shop.jobs.shutdown(how)

    shop.act = first


def seconds(jobs, job):
    """Return when each attempt began, in seconds since the world did."""
    return [(attempt.started_at - job.published_at).total_seconds() for attempt in job.attempts]


@pytest.mark.parametrize("how", HOWS)
def test_what_waits_in_a_worker_goes_back_to_the_broker(shop, how):
    """At once, except after a kill on Redis, where it lies unacknowledged until the visibility timeout."""
    shop.early.apply_async(countdown=600)
    shop.jobs.drain()
    assert shop.jobs.metrics.depth == {}
    shop.jobs.shutdown(how)
    held = how == "kill" and shop.kind == "redis"
    assert shop.jobs.metrics.depth == ({} if held else {"celery": 1})
    job = shop.jobs.settle().one
    assert seconds(shop.jobs, job) == [pytest.approx(3600, abs=100) if held else 600]
    assert job.attempts[0].redelivered
    assert shop.done == ["early"]


@pytest.mark.parametrize("how", [how for how in HOWS if how in {"warm", "soft"}])
@pytest.mark.parametrize("name", ["early", "late"])
def test_a_warm_or_soft_shutdown_lets_a_job_finish(shop, how, name):
    """Its result is stored and its message acknowledged, though it sleeps for a minute."""
    once(shop, how)
    job = shop.jobs.run(getattr(shop, name))
    assert (job.result, len(job.attempts), shop.done) == (name, 1, [name])
    assert shop.jobs.metrics.depth == {}


@pytest.mark.parametrize("how", ["cold", "kill"])
def test_a_late_job_that_was_stopped_comes_again(shop, how):
    """At once after a cold shutdown; after a kill on Redis when the visibility timeout has passed."""
    once(shop, how)
    job = shop.jobs.run(shop.late)
    assert [attempt.outcome for attempt in job.attempts] == ["killed", "succeeded"]
    assert [attempt.redelivered for attempt in job.attempts] == [False, True]
    later = 3600 if how == "kill" and shop.kind == "redis" else 0
    assert seconds(shop.jobs, job) == [0, pytest.approx(later, abs=100)]


@pytest.mark.parametrize("how", ["cold", "kill"])
def test_an_early_job_that_was_stopped_is_lost(shop, how):
    """The broker holds nothing any more."""
    once(shop, how)
    job = shop.jobs.run(shop.early)
    assert (job.state, shop.done, shop.jobs.metrics.depth) == ("lost", [], {})


@pytest.mark.skipif(VERSION < (5, 5), reason="soft shutdown is there from Celery 5.5 on")
@pytest.mark.parametrize(("window", "outcomes"), [(90, ["succeeded"]), (30, ["killed", "succeeded"])])
def test_a_soft_shutdown_has_a_window(shop, window, outcomes):
    """A job that needs longer is stopped when the window ends, and comes again."""
    shop.app.conf.worker_soft_shutdown_timeout = window
    once(shop, "soft")
    job = shop.jobs.run(shop.late)
    assert [attempt.outcome for attempt in job.attempts] == outcomes
    if window == 30:
        assert seconds(shop.jobs, job) == [0, 30]


def test_messages_behind_a_stopped_job_run_in_the_next_worker(shop):
    """In their order."""
    once(shop, "cold")
    shop.late.delay()
    shop.early.delay()
    shop.jobs.settle()
    assert sorted(shop.done) == ["early", "late"]
    assert shop.jobs.pending == []


def test_soft_before_celery_5_5(shop, monkeypatch):
    """One sentence says so."""
    monkeypatch.setattr("pytest_jobs.queues.celery_limits.VERSION", (5, 4, 0))
    with pytest.raises(UsageError, match=r"jobs.shutdown was given 'soft', which Celery knows from 5.5 on; allowed are warm, cold, kill"):
        shop.jobs.shutdown("soft")
