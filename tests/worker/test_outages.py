"""The broker and the result backend out of reach, at each operation and during a retry."""

import kombu
import pytest
from celery import VERSION, Celery
from celery.signals import task_received
from kombu.exceptions import OperationalError

from pytest_jobs import JobLost, in_process_worker

URLS = {"memory": ("memory://localhost/", "cache+memory://"), "redis": ("redis://localhost:6399/0", "redis://localhost:6399/1")}


def make_app(kind, **conf):
    """Make an app that no other test knows."""
    broker, backend = URLS[kind]
    app = Celery("outages", broker=broker, backend=backend, set_as_current=False)
    app.conf.update(conf)
    return app


@pytest.fixture(params=["memory", "redis"])
def shop(request):
    """An app whose tasks call `act` while they run, and a world for it."""
    app = make_app(request.param)

    class Shop:
        act = staticmethod(lambda: None)

    Shop.ran = []

    @app.task(name="early", shared=False)
    def early():
        Shop.ran.append("early")
        Shop.act()
        return "done"

    @app.task(name="late", shared=False, acks_late=True)
    def late():
        Shop.ran.append("late")
        Shop.act()
        return "done"

    @app.task(name="again", bind=True, shared=False, max_retries=3)
    def again(self):
        Shop.ran.append("again")
        if not self.request.retries:
            Shop.act()
            raise self.retry(countdown=10)
        return "done"

    @app.task(name="auto", shared=False, autoretry_for=(ValueError,), retry_backoff=10, retry_jitter=False)
    def auto():
        Shop.ran.append("auto")
        if len(Shop.ran) == 1:
            Shop.act()
            raise ValueError("first")
        return "done"

    @app.task(name="again_late", bind=True, shared=False, max_retries=3, acks_late=True)
    def again_late(self):
        Shop.ran.append("again_late")
        if not self.request.retries:
            Shop.act()
            raise self.retry(countdown=10)
        return "done"

    Shop.app, Shop.early, Shop.late, Shop.again, Shop.auto, Shop.again_late = app, early, late, again, auto, again_late
    with in_process_worker(app) as jobs:
        Shop.jobs = jobs
        yield Shop


def once(shop, act):
    """Let something happen in the first run only."""

    def first():
        shop.act = lambda: None
        act()

    shop.act = first


@pytest.mark.skipif(kombu.VERSION < (5, 5), reason="before kombu 5.5 a first connection has a policy of its own")
def test_publishing_is_tried_again_in_virtual_time(shop):
    """Celery's policy: at once, after 0.2 s, after 0.4 s."""
    with shop.jobs.outage("broker", times=3) as fault:
        shop.early.delay()
    assert (fault.fired, shop.jobs.clock.elapsed.total_seconds()) == (3, pytest.approx(0.6))
    assert shop.jobs.settle().one.succeeded


@pytest.mark.skipif(kombu.VERSION >= (5, 5), reason="from kombu 5.5 on a first connection keeps the policy of publishing")
def test_a_first_connection_is_tried_again_in_virtual_time(shop):
    """Whatever the policy of publishing: after 2 s, after 4 s more, then no more: the time of `broker_connection_timeout` is over."""
    with shop.jobs.outage("broker", times=2) as fault:
        shop.early.delay()
    assert (fault.fired, shop.jobs.clock.elapsed.total_seconds()) == (2, 6)
    assert shop.jobs.settle().one.succeeded


@pytest.mark.skipif(kombu.VERSION >= (5, 5), reason="from kombu 5.5 on a first connection keeps the policy of publishing")
def test_a_first_connection_that_fails_three_times_reaches_the_caller(shop):
    """So long a first publish waits, and no longer."""
    with shop.jobs.outage("broker", times=3), pytest.raises(OperationalError, match="cannot be reached"):
        shop.early.apply_async(retry_policy={"max_retries": 30})
    assert shop.jobs.clock.elapsed.total_seconds() == 6


def test_a_longer_policy_bridges_a_longer_outage(shop):
    """The app's own settings count."""
    policy = {"max_retries": 30, "interval_start": 1, "interval_step": 0, "interval_max": 1}
    shop.jobs.run(shop.early)
    with shop.jobs.outage("broker", times=20):
        shop.early.apply_async(retry_policy=policy)
    assert shop.jobs.settle().one.succeeded
    assert shop.jobs.clock.elapsed.total_seconds() == 4.0


def test_without_publish_retries_the_first_failure_reaches_the_caller(shop):
    """`retry=False` asks for that."""
    shop.jobs.run(shop.early)
    with shop.jobs.outage("broker"), pytest.raises(OperationalError, match="cannot be reached"):
        shop.early.apply_async(retry=False)
    assert len(shop.jobs.all) == 1


def test_consuming_goes_on_when_the_broker_is_back(shop):
    """Nothing is lost, nothing runs twice, however long it was away."""
    shop.early.delay()
    shop.late.delay()
    fault = shop.jobs.outage("broker", times=20)
    shop.jobs.settle()
    assert (fault.fired, sorted(shop.ran)) == (20, ["early", "late"])


def test_an_early_ack_that_does_not_arrive_runs_the_job_twice(shop):
    """Celery logs it and runs the body; the broker delivers again what it never saw acknowledged."""

    def received(**_):
        task_received.disconnect(received)
        shop.jobs.outage("broker")

    task_received.connect(received)
    job = shop.jobs.run(shop.early)
    assert [attempt.redelivered for attempt in job.attempts] == [False, True]
    assert shop.ran == ["early", "early"]


def test_a_late_ack_that_does_not_arrive_runs_the_job_twice(shop):
    """Its work is done, its message comes again."""
    once(shop, lambda: shop.jobs.outage("broker"))
    job = shop.jobs.run(shop.late)
    assert [attempt.redelivered for attempt in job.attempts] == [False, True]
    assert (shop.ran, job.result) == (["late", "late"], "done")


def test_a_result_that_cannot_be_stored_fails_the_job(shop):
    """The work is done, the caller is told that it failed."""
    shop.jobs.outage("results")
    job = shop.jobs.run(shop.early)
    assert (job.state, shop.ran) == ("failed", ["early"])
    assert "cannot be reached" in str(job.error)


def test_an_outage_that_lasts_loses_the_result(shop):
    """Not even the failure can be stored: the worker logs that and goes on, the caller waits for ever."""
    shop.jobs.outage("results", times=4)
    job = shop.jobs.run(shop.early)
    assert ([attempt.outcome for attempt in job.attempts], job.state, shop.ran) == (["result lost"], "lost", ["early"])
    with pytest.raises(JobLost, match="its result could not be stored; result_backend_always_retry would bridge the outage"):
        _ = job.result
    shop.jobs.settle()
    assert shop.ran == ["early"]


def test_the_two_servers_are_separate(shop):
    """While the results are away the broker works, and the other way round."""
    shop.jobs.outage("results", times=1)
    handle = shop.early.delay()
    assert len(shop.jobs.pending) == 1
    shop.jobs.settle()
    once(shop, lambda: shop.jobs.outage("broker"))
    assert shop.early.delay().get() == "done"
    assert handle.state in {"FAILURE", "PENDING"}


@pytest.mark.parametrize("name", ["again", "auto"])
def test_a_retry_that_cannot_be_published_loses_the_job(shop, name):
    """Celery rejects the message when its publish policy is exhausted: nothing comes any more."""
    once(shop, lambda: shop.jobs.outage("broker", times=4 if name == "memory" else 20))
    job = shop.jobs.run(getattr(shop, name))
    assert (job.state, shop.ran) == ("lost", [name])
    assert [attempt.outcome for attempt in job.attempts] == ["retry lost"]
    with pytest.raises(JobLost, match=r"is lost: its retry could not be published, so Celery dropped it; a longer"):
        _ = job.result


def test_a_retry_that_is_published_at_last_is_no_loss(shop):
    """A short outage costs a moment."""
    once(shop, lambda: shop.jobs.outage("broker", times=3))
    job = shop.jobs.run(shop.again)
    assert (job.result, shop.ran) == ("done", ["again", "again"])


def test_a_late_job_whose_rejection_does_not_arrive_either_comes_back(shop):
    """With the connection gone the broker still holds the message."""
    once(shop, lambda: shop.jobs.outage("broker", times=20))
    job = shop.jobs.run(shop.again_late)
    assert job.result == "done"
    assert [attempt.outcome for attempt in job.attempts] == ["retry lost", "retried", "succeeded"]


def test_a_rejection_of_the_task_itself_is_no_lost_retry(shop):
    """Only what Celery's own `retry` rejects is."""

    @shop.app.task(name="rejects", shared=False)
    def rejects():
        from celery.exceptions import Reject

        try:
            raise ValueError("no")
        except ValueError as error:
            raise Reject(error, requeue=False) from error

    assert shop.jobs.run(rejects).state == "rejected"


def test_results_are_stored_again_where_the_app_asks_for_it():
    """`result_backend_always_retry` bridges an outage of Redis in virtual time; before 5.5 the Redis backend knows of no safe error."""
    app = make_app("redis", result_backend_always_retry=True)

    @app.task(name="plain", shared=False)
    def plain():
        return "done"

    with in_process_worker(app) as jobs:
        jobs.outage("results", times=5)
        handle = plain.delay()
        if VERSION < (5, 5):
            jobs.settle()
            assert (jobs.all.one.state, jobs.clock.elapsed.total_seconds()) == ("lost", 0)
            return
        assert handle.get() == "done"
        assert jobs.clock.elapsed.total_seconds() > 0
        assert jobs.all.one.succeeded
