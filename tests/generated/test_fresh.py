"""A fresh world for each example, without setting fixtures up again."""

import time
from collections import deque
from datetime import UTC, datetime
from unittest.mock import AsyncMock, Mock, call

import pytest
from celery import Celery

from pytest_jobs import JobsWarning, UsageError, in_process_worker

URLS = {"memory": ("memory://localhost/", "cache+memory://"), "redis": ("redis://localhost:6399", "redis://localhost:6399/1")}
START = datetime(2030, 1, 31, 9, tzinfo=UTC)


class Shop:
    """One app, what it charged, and its open worker."""

    def __init__(self, broker, backend):
        self.app = Celery("fresh", broker=broker, backend=backend, set_as_current=False)
        self.charged = []
        self.jobs = None

        @self.app.task(name="charge", shared=False, acks_late=True, bind=True, max_retries=3)
        def charge(task, order):
            self.gateway(order)
            self.charged.append(order)
            return order

        self.charge = charge
        self.act = lambda: None

    def gateway(self, order):
        self.act()


@pytest.fixture(params=["memory", "redis"])
def shop(request):
    """An app and its open worker."""
    shop = Shop(*URLS[request.param])
    with in_process_worker(shop.app, source=(__file__,), start=START) as jobs:
        shop.jobs = jobs
        yield shop


def test_jobs_results_and_time_are_gone_afterwards(shop):
    """What was before the block is as it was, what happened in it never was."""
    before = shop.jobs.run(shop.charge, 1)
    shop.jobs.advance(60)
    with shop.jobs.fresh():
        assert shop.jobs.all == []
        assert shop.jobs.clock.elapsed.total_seconds() == 0
        handle = shop.charge.apply_async((2,), countdown=600)
        shop.jobs.settle()
        assert handle.get() == 2
        assert shop.jobs.clock.elapsed.total_seconds() == 600
        shop.charge.delay(3)
    assert shop.jobs.all == [before]
    assert shop.jobs.settle() == []
    assert shop.charge.AsyncResult(handle.id).state == "PENDING"
    assert shop.charge.AsyncResult(before.id).get() == 1
    assert shop.jobs.clock.elapsed.total_seconds() == 60
    assert time.time() == START.timestamp() + 60
    assert shop.charged == [1, 2]


def test_one_block_does_not_see_the_other(shop):
    """Whatever an example leaves behind in the broker and the worker."""
    for _ in range(3):
        with shop.jobs.fresh():
            shop.charge.apply_async((2,), countdown=60)
            shop.jobs.drain()
            shop.charge.delay(3)
            shop.jobs.crash(shop.charge)
            assert len(shop.jobs.settle()) == 2
            assert sorted(len(job.attempts) for job in shop.jobs.all) == [1, 2]
            assert len(shop.jobs.effects) == 0
        with shop.jobs.fresh():
            handle = shop.charge.delay(4)
            shop.app.control.revoke(handle.id)
            shop.jobs.settle()
            assert shop.jobs.all.one.state == "revoked"


def test_a_block_that_fails_is_put_back_too(shop):
    """The error carries the timeline of its block, which is gone with the block."""
    with pytest.raises(ZeroDivisionError) as error, shop.jobs.fresh():
        shop.jobs.run(shop.charge, 7)
        _ = 1 / 0
    assert error.value.__notes__ == ["jobs timeline:\n  00:00:00  delivery 1  charge(7)  succeeded, acked"]
    assert shop.jobs.all == []


def test_watched_containers_hold_what_they_held(shop):
    """In place, and so do the containers inside."""
    inner = [1]
    stock = {"a": inner, "b": {"c": 1}}
    seen, tags, line = [1, 2], {"x"}, deque([1], maxlen=3)
    for source in (stock, seen, tags, line):
        shop.jobs.watch(source)
    with shop.jobs.fresh():
        inner.append(2)
        stock["b"]["c"] = 2
        del stock["a"]
        stock["new"] = 1
        seen[:] = [3]
        tags.clear()
        line.extend([2, 3, 4])
    assert stock == {"a": [1], "b": {"c": 1}}
    assert stock["a"] is inner
    assert (seen, tags, line) == ([1, 2], {"x"}, deque([1]))


def test_watched_mocks_forget_their_calls(shop):
    """Those of the block, and no others."""
    gateway = Mock(name="gateway")
    mailer = AsyncMock(name="mailer")
    gateway.send(1)
    shop.jobs.watch(gateway)
    shop.jobs.watch(mailer)
    shop.act = lambda: gateway.send(2)
    with shop.jobs.fresh():
        shop.jobs.run(shop.charge, 7)
        gateway.refund().now()
        assert gateway.send.call_count == 2
    assert gateway.mock_calls == [call.send(1)]
    assert (gateway.send.call_count, gateway.send.call_args, gateway.refund.called) == (1, call(1), False)
    with shop.jobs.fresh():
        shop.jobs.run(shop.charge, 7)
        assert gateway.mock_calls == [call.send(1), call.send(2)]


def test_what_is_watched_in_the_block_is_forgotten(shop):
    """The next block starts without it, and without its ignore patterns."""
    for _ in range(2):
        with shop.jobs.fresh():
            seen = []
            shop.jobs.watch(seen, name="seen", ignore=["seen"])
            shop.jobs.outgoing(f"{__name__}.outside")
            shop.act = outside_call
            shop.jobs.run(shop.charge, 7)
            assert [effect.label for effect in shop.jobs.effects].count("call test_fresh.outside") == 1
    assert shop.jobs._session.watched == []
    assert shop.jobs._session.ignore == []


def outside():
    """Something that is declared to be outgoing."""


def outside_call():
    """Call it by its name of the moment."""
    globals()["outside"]()


def test_faults_of_the_block_end_with_it(shop):
    """One armed before strikes as often in each block."""
    outer = shop.jobs.fail(shop.charge, ConnectionError, times=1)
    for _ in range(2):
        with shop.jobs.fresh():
            inner = shop.jobs.duplicate(shop.charge)
            job = shop.jobs.run(shop.charge, 7)
            assert [attempt.outcome for attempt in job.attempts] == ["failed", "succeeded"]
            assert inner.fired == 1
    assert outer.fired == 2
    assert shop.jobs.faults == (outer,)
    with pytest.raises(AssertionError, match=r"jobs.lose\(charge\)"), shop.jobs.fresh():
        shop.jobs.lose(shop.charge)


def test_kills_in_many_blocks(shop):
    """However many blocks look at the lines of tasks, Python's few monitoring tools suffice."""
    for _ in range(12):
        with shop.jobs.fresh():
            assert len(shop.jobs.deliver(shop.charge, 7, schedule="crash@1").attempts) == 2


def test_an_outage_ends_with_the_block(shop):
    """The server can be reached again."""
    with shop.jobs.fresh():
        outage = shop.jobs.outage("broker", times=1000)
        with pytest.raises(Exception, match="cannot be reached"):
            shop.charge.delay(7)
        assert outage.fired
    assert shop.jobs.run(shop.charge, 7).succeeded


def test_redis_of_the_app_is_put_back():
    """Keys and what time they have left."""
    shop = Shop(*URLS["redis"])
    with in_process_worker(shop.app, source=(__file__,), start=START) as jobs:
        jobs.redis.set("stock", 5, ex=100)
        jobs.redis.rpush("line", 1)
        jobs.run(shop.charge, 1)
        before = sorted(jobs.redis.keys())
        with jobs.fresh():
            jobs.redis.incr("stock")
            jobs.redis.delete("line")
            jobs.redis.set("lock:7", 1)
            jobs.advance(500)
            assert jobs.redis.get("stock") is None
            jobs.run(shop.charge, 2)
        assert sorted(jobs.redis.keys()) == before
        assert (jobs.redis.get("stock"), jobs.redis.ttl("stock"), jobs.redis.lrange("line", 0, -1)) == (b"5", 100, [b"1"])
        assert jobs.run(shop.charge, 3).succeeded


def test_a_watched_callable_that_cannot_be_put_back_is_told(shop):
    """Once, as a warning, and each time in the value."""
    stock = {"a": 1}
    shop.jobs.watch(lambda: stock, name="stock")
    told = "jobs.fresh could not put everything back: stock, which is watched, is not what it was"
    with pytest.warns(JobsWarning, match=told), shop.jobs.fresh() as fresh:
        stock["a"] = 2
    assert fresh.left == ("stock, which is watched, is not what it was",)
    with shop.jobs.fresh() as fresh:
        stock["a"] = 3
    assert len(fresh.left) == 1
    with shop.jobs.fresh() as fresh:
        shop.jobs.run(shop.charge, 7)
    assert fresh.left == ()


def test_misuse(shop):
    """Each misuse is one sentence."""
    handle = shop.charge.delay(7)
    told = r"while jobs were due: <Job charge\(7\): pending>; run them first"
    with pytest.raises(UsageError, match=told), shop.jobs.fresh():
        pass
    shop.act = lambda: shop.jobs.fresh().__enter__()
    assert "jobs.fresh was entered inside the task charge" in str(shop.jobs.settle().one.error)
    assert handle.id == shop.jobs.all.one.id
