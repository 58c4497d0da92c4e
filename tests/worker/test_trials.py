"""Schedules, outages, shutdowns and beat, as a test asks for them."""

import gc
import re

import pytest
from celery import VERSION, Celery, _state
from celery.exceptions import SoftTimeLimitExceeded
from celery.schedules import crontab
from kombu.exceptions import OperationalError

from pytest_jobs import UsageError, in_process_worker

SOFT = ["soft"] if VERSION >= (5, 5) else []
URLS = {"memory": ("amqp://", "cache+memory://"), "redis": ("redis://localhost:1", "redis://localhost:1/1")}


class Shop:
    """One app with its tasks and what they did."""

    def __init__(self, broker, backend):
        self.app = Celery("trials", broker=broker, backend=backend, set_as_current=False)
        self.done = []
        self.jobs = None

        @self.app.task(name="charge", shared=False, acks_late=True, bind=True, max_retries=3)
        def charge(task, order):
            self.done.append((order, task.request.retries, bool(task.request.delivery_info["redelivered"])))
            self.gateway(order)
            return order

        @self.app.task(name="early", shared=False)
        def early(order):
            self.done.append(order)
            self.gateway(order)

        @self.app.task(name="limited", shared=False, soft_time_limit=10, time_limit=20)
        def limited():
            import time

            try:
                time.sleep(15)
            except SoftTimeLimitExceeded:
                self.done.append(self.jobs.clock.elapsed.total_seconds())
                time.sleep(15)

        self.charge, self.early, self.limited = charge, early, limited
        self.act = lambda: None

    def gateway(self, order):
        self.act()


@pytest.fixture(params=["memory", "redis"])
def shop(request):
    """An app and its open worker."""
    shop = Shop(*URLS[request.param])
    with in_process_worker(shop.app, source=(__file__,)) as jobs:
        shop.jobs = jobs
        yield shop


def test_deliver_starts_in_the_middle_of_a_story(shop):
    """The retry number and the redelivered flag are inputs."""
    job = shop.jobs.deliver(shop.charge, 7, retries=2, redelivered=True)
    assert job.succeeded
    assert shop.done == [(7, 2, True)]


def test_deliver_twice(shop):
    """The schedule strikes the jobs of this call only."""
    job = shop.jobs.deliver(shop.charge, 7, schedule="twice")
    assert [attempt.redelivered for attempt in job.attempts] == [False, True]
    assert len(shop.jobs.run(shop.charge, 8).attempts) == 1


def test_deliver_late(shop):
    """The delivery comes again when everything is done, counted from this call."""
    shop.jobs.run(shop.charge, 1)
    job = shop.jobs.deliver(shop.charge, 7, schedule="late@1")
    assert [order for order, *_ in shop.done] == [1, 7, 7]
    assert len(job.attempts) == 2


def test_deliver_under_a_crash_and_then_twice(shop):
    """Faults of a schedule strike one after the other."""
    job = shop.jobs.deliver(shop.charge, 7, schedule="crash@2+twice")
    assert [attempt.outcome for attempt in job.attempts] == ["killed", "succeeded", "succeeded"]


def test_a_schedule_that_finds_nothing_is_said(shop):
    """A point that the run never reaches fails the test."""
    with pytest.raises(AssertionError) as error:
        shop.jobs.deliver(shop.charge, 7, schedule="crash@900")
    assert str(error.value).splitlines()[0] == "charge: the schedule crash@900 did not happen: crash@900 found nothing to do"


def test_misuse_of_deliver(shop):
    """Each misuse is one sentence."""
    with pytest.raises(UsageError, match="'crash' is no schedule; allowed are once, twice, late@N, crash@N"):
        shop.jobs.deliver(shop.charge, 7, schedule="crash")
    with pytest.raises(UsageError, match="retries=-1; allowed is a whole number from 0"):
        shop.jobs.deliver(shop.charge, 7, retries=-1)
    assert shop.done == []


def test_a_sleep_meets_the_soft_and_then_the_hard_limit(shop):
    """Limits strike in virtual time, at the sleep."""
    job = shop.jobs.run(shop.limited)
    assert shop.done == [10.0]
    assert [attempt.outcome for attempt in job.attempts] == ["timed out"]
    assert shop.jobs.clock.elapsed.total_seconds() == 20.0


def test_a_hang_without_a_limit_fails_the_test(shop):
    """A worker that is never free again is no outcome."""
    shop.jobs.hang(shop.charge)
    with pytest.raises(AssertionError, match=r"charge hangs for ever at jobs.hang\(charge\): no time limit applies"):
        shop.jobs.run(shop.charge, 7)


def test_a_short_broker_outage_is_survived_by_the_publish_retries(shop):
    """Celery tries to publish again, in virtual time."""
    fault = shop.jobs.outage("broker", times=2)
    assert shop.jobs.run(shop.charge, 7).succeeded
    assert fault.fired == 2


def test_a_short_result_outage(shop):
    """An outcome that could not be stored is not an outcome of the broker."""
    shop.jobs.outage("results")
    job = shop.jobs.run(shop.charge, 7)
    assert shop.done
    assert job.attempts


@pytest.mark.parametrize("how", ["warm", *SOFT, "cold", "kill"])
def test_a_shutdown_between_jobs_loses_nothing(shop, how):
    """What waits in the worker for its time comes back from the broker."""
    shop.charge.apply_async((7,), countdown=600)
    shop.jobs.drain()
    shop.jobs.shutdown(how)
    shop.jobs.settle()
    assert [order for order, *_ in shop.done] == [7]


@pytest.mark.parametrize("how", ["warm", *SOFT])
def test_a_shutdown_lets_the_running_job_finish(shop, how):
    """Its job succeeds, the next one runs in a fresh worker."""
    shop.act = lambda: shop.jobs.shutdown(how)
    job = shop.jobs.run(shop.early, 7)
    assert job.succeeded
    shop.act = lambda: None
    assert shop.jobs.run(shop.early, 8).succeeded


@pytest.mark.parametrize("how", ["cold", "kill"])
def test_a_cold_shutdown_stops_the_running_job(shop, how):
    """A late-acked job comes again, an early-acked one is lost."""

    def once():
        shop.act = lambda: None
        shop.jobs.shutdown(how)

    shop.act = once
    assert [attempt.outcome for attempt in shop.jobs.run(shop.charge, 7).attempts] == ["killed", "succeeded"]
    shop.act = once
    assert shop.jobs.run(shop.early, 7).lost


def test_misuse_of_faults(shop):
    """Each misuse is one sentence."""
    with pytest.raises(UsageError, match=r"jobs.outage was given 'redis'; allowed are 'broker' and 'results'"):
        shop.jobs.outage("redis")
    with pytest.raises(UsageError, match=r"jobs.shutdown was given 'now'; allowed are warm, soft, cold, kill"):
        shop.jobs.shutdown("now")
    with pytest.raises(UsageError, match=r"jobs.beat was given beats=0; allowed is a whole number from 1"):
        shop.jobs.beat(60, beats=0)


def test_beat_sends_each_due_entry_at_its_time(shop):
    """Crontab and interval entries run in order, at their instants."""
    shop.app.conf.beat_schedule = {
        "quarterly": {"task": "charge", "schedule": crontab(minute="*/15"), "args": (1,)},
        "each": {"task": "early", "schedule": 1200.0, "args": (2,)},
    }
    ran = shop.jobs.beat(3600)
    assert len(ran.of(shop.charge)) == 4
    assert len(ran.of(shop.early)) == 3
    assert {job.published_at.minute % 15 for job in ran.of(shop.charge)} == {0}
    assert all(job.succeeded for job in ran)


def ring():
    return "rung"


@pytest.fixture
def two_apps(monkeypatch):
    """Two apps, neither of them current, with a task each; those of other tests are gone, or have no beat schedule meanwhile."""
    gc.collect()
    for app in list(_state._get_active_apps()):
        if app.configured and app.conf.beat_schedule:
            monkeypatch.setitem(app.conf, "beat_schedule", {})
    apps = [Celery(name, broker="memory://", set_as_current=False) for name in ("shop", "post")]
    for app in apps:
        app.task(ring, name=f"{app.main}.ring", shared=False)
    return apps


def test_beat_runs_the_schedule_of_the_app_that_has_one(two_apps):
    """Whichever is current; periodic tasks may be added by a handler."""
    shop, post = two_apps

    @post.on_after_finalize.connect
    def add(sender, **_):
        sender.add_periodic_task(600.0, sender.tasks["post.ring"].s())

    with in_process_worker() as jobs:
        assert [job.name for job in jobs.beat(3600)] == ["post.ring"] * 6
    shop.conf.beat_schedule = {"x": {"task": "shop.ring", "schedule": 600.0}}
    with in_process_worker(shop) as jobs:
        assert [job.name for job in jobs.beat(3600)] == ["shop.ring"] * 6


def test_beat_without_a_schedule_or_with_several_is_said(two_apps):
    """Nothing sent would look like nothing due."""
    none = re.escape("jobs.beat was called, but no app has a beat schedule; name the one to run as jobs_app, and set")
    with in_process_worker(two_apps[0]) as jobs, pytest.raises(UsageError, match=none):
        jobs.beat(3600)
    for app in two_apps:
        app.conf.beat_schedule = {"x": {"task": f"{app.main}.ring", "schedule": 600.0}}
    with in_process_worker() as jobs, pytest.raises(UsageError, match="several apps have a beat schedule"):
        jobs.beat(3600)


def test_two_beats_send_everything_twice(shop):
    """As when a second scheduler was started by mistake."""
    shop.app.conf.beat_schedule = {"quarterly": {"task": "charge", "schedule": crontab(minute="*/15"), "args": (1,)}}
    assert len(shop.jobs.beat(3600, beats=2)) == 8


def test_metrics(shop):
    """The figures are those of virtual time."""
    shop.charge.apply_async((1,), countdown=60)
    shop.charge.delay(2)
    shop.jobs.clock.advance(5)
    before = shop.jobs.metrics
    assert (before.depth, before.oldest) == ({"celery": 2}, 5.0)
    shop.jobs.settle()
    after = shop.jobs.metrics
    assert (after.depth, after.succeeded, after.dead, after.lost, after.oldest) == ({}, 2, 0, 0, 0.0)


def test_a_long_broker_outage_reaches_the_caller(shop):
    """When the publish retries are exhausted the publisher is told, as in production."""
    with shop.jobs.outage("broker", times=50), pytest.raises(OperationalError, match="the server cannot be reached"):
        shop.charge.delay(7)
    assert shop.jobs.all == []
    assert shop.jobs.run(shop.charge, 8).succeeded


def test_the_worker_survives_a_broker_that_goes_away_while_it_consumes(shop):
    """It connects again and goes on."""
    shop.charge.delay(7)
    shop.jobs.outage("broker")
    shop.jobs.settle()
    assert [order for order, *_ in shop.done] == [7]


def test_an_ack_that_does_not_arrive_brings_the_job_again(shop):
    """The effect of a late ack that was lost."""

    def once():
        shop.act = lambda: None
        shop.jobs.outage("broker")

    shop.act = once
    job = shop.jobs.run(shop.charge, 7)
    assert [attempt.redelivered for attempt in job.attempts] == [False, True]
    assert job.succeeded
    assert shop.jobs.pending == []
