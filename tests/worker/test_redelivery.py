"""What brokers hand out again by themselves: Redis by its visibility timeout, RabbitMQ by its consumer timeout; and for how long."""

import time
from datetime import timedelta

import pytest
from celery import Celery
from celery.exceptions import Reject
from kombu import Queue

from pytest_jobs import RunawayJobs, UsageError, in_process_worker

RABBITMQ = "amqp://guest:guest@localhost:5679/shop"


def make(url="redis://localhost:6399/0", **conf):
    app = Celery("shop", broker=url, backend="cache+memory://", set_as_current=False)
    app.conf.update(conf)
    return app


def make_redis(timeout, **options):
    return make(broker_transport_options={"visibility_timeout": timeout, **options})


def flags_of(app, **options):
    """Register a task; return it with the list of its `redelivered` flags and retries."""
    seen = []

    @app.task(shared=False, bind=True, name="late", **options)
    def late(self, seconds=0):
        seen.append((bool(self.request.delivery_info["redelivered"]), self.request.retries))
        time.sleep(seconds)

    return late, seen


@pytest.mark.parametrize(
    ("countdown", "timeout", "runs"),
    [(1800, 3600, 1), (3500, 3600, 1), (3650, 3600, 2), (3750, 3600, 2), (7200, 3600, 3), (7500, 3600, 3),
     (86400, 3600, 25), (1200, 310, 4), (300, 300, 2), (600, 60, 11)],
)  # fmt: skip
@pytest.mark.parametrize("acks_late", [False, True])
def test_countdown_past_the_visibility_timeout(world, countdown, timeout, runs, acks_late):
    """Redis hands a message that waits in a worker out again after its visibility timeout."""
    late, seen = flags_of(make_redis(timeout), acks_late=acks_late)
    late.apply_async(countdown=countdown)
    world.settle()
    assert sorted(seen) == [(False, 0)] + [(True, 0)] * (runs - 1)


def test_retry_past_the_visibility_timeout(world):
    """A backoff longer than the timeout doubles the retry; the copies keep its number."""
    app = make_redis(3600)
    seen = []

    @app.task(shared=False, bind=True)
    def again(self):
        seen.append((self.request.retries, bool(self.request.delivery_info["redelivered"])))
        if not self.request.retries:
            raise self.retry(countdown=2 * 3600 + 60)

    job = world.run(again)
    assert sorted(seen) == [(0, False), (1, False), (1, True), (1, True)]
    assert job.delays == (7260,)


@pytest.mark.parametrize(("hours", "runs"), [(0.5, 1), (1.5, 2), (3.5, 4)])
def test_a_late_body_past_the_visibility_timeout(world, hours, runs):
    """A task acknowledged late gets a copy each time the timeout passes while it runs; the copies run after it."""
    late, seen = flags_of(make_redis(3600), acks_late=True)
    world.run(late, hours * 3600)
    assert seen == [(False, 0)] + [(True, 0)] * (runs - 1)


def test_an_early_body_past_the_visibility_timeout(world):
    """A task acknowledged early runs once, however long."""
    late, seen = flags_of(make_redis(3600))
    world.run(late, 10 * 3600)
    assert seen == [(False, 0)]


@pytest.mark.parametrize(("interval", "throttle", "runs"), [(60, 2, 3), (300, 1, 1)])
def test_the_interval_of_looks_can_be_set(world, interval, throttle, runs):
    """The timeout is noticed at the next look at the unacknowledged messages."""
    late, seen = flags_of(make_redis(100, unacked_restore_interval=interval, unacked_restore_throttle=throttle))
    late.apply_async(countdown=250)
    world.settle()
    assert len(seen) == runs


def test_order_of_what_comes_again(world):
    """A rejected message goes to the back of a Redis queue, a restored one to its front."""
    app = make_redis(3600)
    order = []

    @app.task(shared=False, acks_late=True, bind=True)
    def step(self, name):
        order.append(name)
        if name == "a" and order.count("a") == 1:
            raise Reject("later", requeue=True)

    for name in "abc":
        step.delay(name)
    world.drain()
    assert order == ["a", "b", "c", "a"]

    order.clear()
    step.apply_async(("held",), countdown=60)
    world.drain()
    step.delay("new")
    world.shutdown("warm")
    assert [job.args[0] for job in world.pending] == ["new"]
    world.settle()
    assert order == ["new", "held"]


@pytest.mark.parametrize("acks_late", [False, True])
def test_countdown_past_the_consumer_timeout(world, acks_late):
    """RabbitMQ closes the channel of a message that waits in a worker: it comes again, and runs once."""
    late, seen = flags_of(make(RABBITMQ), acks_late=acks_late)
    job = late.apply_async(countdown=4 * 3600)
    world.settle()
    assert seen == [(True, 0)]
    assert world.all.of(late).one.id == job.id


def test_everything_a_channel_holds_comes_again(world):
    """One message that lies too long takes every other of its channel along."""
    late, seen = flags_of(make(RABBITMQ))
    late.apply_async(countdown=1900)
    world.advance(1700)
    late.apply_async(countdown=150)
    world.settle()
    assert seen == [(True, 0), (True, 0)]


@pytest.mark.parametrize(("url", "broker", "flag"), [
    (RABBITMQ, "auto", True), (RABBITMQ, "memory", False), ("memory://localhost/", "rabbitmq", True),
    ("memory://localhost/", "auto", False), ("sqs://", "auto", False),
])  # fmt: skip
def test_jobs_broker_names_whose_rules_apply(url, broker, flag):
    """RabbitMQ's rules apply to its URLs, or when they are asked for."""
    with in_process_worker(broker=broker) as jobs:
        late, seen = flags_of(make(url))
        late.apply_async(countdown=3600)
        jobs.settle()
        assert seen == [(flag, 0)]


def test_an_unknown_broker_is_refused():
    """What is allowed is said."""
    with (
        pytest.raises(UsageError, match=r"^jobs_broker is 'kafka'; allowed are auto, redis, rabbitmq, memory$"),
        in_process_worker(broker="kafka"),
    ):
        pass


def test_a_late_body_past_the_consumer_timeout_once(world):
    """A body that is too long once runs twice; its late ack reaches nobody, its result stands."""
    app = make(RABBITMQ)
    lengths = iter([3600, 0])

    @app.task(shared=False, acks_late=True)
    def long():
        time.sleep(next(lengths))

    job = world.run(long)
    assert [attempt.redelivered for attempt in job.attempts] == [False, True]
    assert job.succeeded


def test_a_queue_has_a_consumer_timeout_of_its_own(world):
    """The argument `x-consumer-timeout` of a queue counts, in milliseconds."""
    app = make(RABBITMQ, task_queues=[Queue("celery", queue_arguments={"x-consumer-timeout": 60_000})])
    late, seen = flags_of(app)
    late.apply_async(countdown=90)
    world.settle()
    assert seen == [(True, 0)]


def test_a_late_body_always_past_the_consumer_timeout_never_rests(world):
    """Such a job comes again for ever, on RabbitMQ as here; it is said."""
    late, _ = flags_of(make(RABBITMQ), acks_late=True)
    with pytest.raises(RunawayJobs, match=r"^late does not come to rest: 1,000 deliveries of one job in one call"):
        world.run(late, 3600)
    world.shutdown("kill")


POISON = """\
poison does not come to rest: a poison message: it killed its worker 100 times and came again each time

The loop:
 00:00:00  delivery 95  poison(7)  redelivered, {how}
 00:00:00  delivery 96  poison(7)  redelivered, {how}
 00:00:00  delivery 97  poison(7)  redelivered, {how}
 00:00:00  delivery 98  poison(7)  redelivered, {how}
 00:00:00  delivery 99  poison(7)  redelivered, {how}
 00:00:00  delivery 100  poison(7)  redelivered, {how}

Still scheduled: 1 job
  shop.poison due now, after 100 attempts

Fix:     https://pytest-jobs.readthedocs.io/failures#runaway"""


@pytest.mark.parametrize(("child", "how"), [
    pytest.param(True, "worker lost after…ignal 9 (SIGKILL)'), requeued", id="child"),
    pytest.param(False, "killed by jobs.cr…ison, times=10000), not acked", id="worker"),
])  # fmt: skip
def test_a_poison_message_ends_in_an_error(world, child, how):
    """A message that kills its worker each time is no endless loop here."""
    app = make("memory://localhost/")

    @app.task(shared=False, acks_late=True, reject_on_worker_lost=True, name="shop.poison")
    def poison(order):
        """Die."""

    world.crash(poison, times=10_000, child=child)
    with pytest.raises(RunawayJobs) as caught:
        world.run(poison, 7)
    assert str(caught.value).splitlines() == POISON.format(how=how).splitlines()


def test_retries_bound_a_poison_message(world):
    """With `max_retries` (5.7: `retry_on_worker_lost`) or an early ack it ends by itself."""
    app = make("memory://localhost/")

    @app.task(shared=False, name="shop.poison")
    def poison():
        """Die."""

    world.crash(poison, times=10_000, child=True)
    assert world.run(poison).dead
    assert world.clock.elapsed < timedelta(seconds=1)
