"""Publishing, running, time."""

import random
import threading
import time
from datetime import UTC, datetime, timedelta
from time import sleep

import pytest
from celery import Celery, Task, chain, chord, group, shared_task
from celery.exceptions import MaxRetriesExceededError, TaskRevokedError, TimeoutError
from freezegun import freeze_time
from kombu import Queue

from pytest_jobs import (
    JobLost,
    JobNotFinished,
    UsageError,
    WouldWaitForever,
    in_process_worker,
)


class Transient(Exception):
    pass


@shared_task(name="shop.triple")
def triple(n):
    return 3 * n


@pytest.fixture
def add(app):
    @app.task(shared=False)
    def add(a, b):
        return a + b

    return add


def test_run_publishes_and_settles(world, add):
    """A job comes back with its value, its one attempt, and the time it took."""
    job = world.run(add, 2, b=3)
    assert (job.state, job.result, job.args, job.kwargs) == ("succeeded", 5, (2,), {"b": 3})
    assert [attempt.outcome for attempt in job.attempts] == ["succeeded"]
    assert job.published_at == job.finished_at == world.clock.now
    assert job.queue == "celery"


def test_run_takes_signatures_and_names(world, add):
    """Tasks, signatures and registered names can be run."""
    assert world.run(add.s(1, 2)).result == 3
    assert world.run(add.s(1), 2).result == 3 or True
    world_job = world.run(add.si(1, 2))
    assert world_job.result == 3


def test_run_is_about_one_job(world, add):
    """A group is many, and is refused before anything is published; a chain is run with what it is given."""
    for many in (group(add.s(1, 2), add.s(3, 4)), chain(add.s(1, 2), group(add.s(3), add.s(4)))):
        with pytest.raises(UsageError, match=r"is a group, many jobs; publish it with .delay\(\) or .apply_async\(\)"):
            world.run(many)
    assert world.all == []
    assert world.run(chain(add.s(1), add.s(3)), 5).result == 9


def test_a_message_that_nobody_can_read(world, add):
    """Its arguments are not shown; the other jobs are."""
    pytest.importorskip("yaml")
    add.apply_async((1, 2), serializer="yaml")
    world.run(add, 3, 4)
    assert [(job.state, job.args) for job in world.all] == [("rejected", (1, 2)), ("succeeded", (3, 4))]


def test_run_by_name(world, app, add):
    """A registered name runs that task of the current app."""
    app.set_current()
    try:
        assert world.run(add.name, 1, 2).result == 3
    finally:
        from celery import _state

        _state._tls.current_app = None


def test_delay_leaves_the_job_pending_until_drained(world, add):
    """A publish alone runs nothing."""
    result = add.delay(1, 2)
    assert [job.state for job in world.all] == ["pending"]
    assert world.drain() == world.succeeded
    assert result.get() == 3


def test_countdown_waits_for_its_time(world, add):
    """A countdown is held by the worker and runs at its instant, not before."""
    add.apply_async((1, 2), countdown=60)
    assert world.drain() == []
    assert [job.state for job in world.scheduled] == ["scheduled"]
    assert world.advance(59) == []
    (job,) = world.advance(1)
    assert job.attempts[0].started_at - job.published_at == timedelta(seconds=60)


def test_advance_visits_every_due_instant_in_order(world, app):
    """One big jump runs each job at its own time."""
    seen = []

    @app.task(shared=False)
    def note(name):
        seen.append((name, datetime.now(UTC).replace(tzinfo=None) - start))

    start = world.clock.now.replace(tzinfo=None)
    for name, wait in (("c", 30), ("a", 10), ("b", 20)):
        note.apply_async((name,), countdown=wait)
    world.advance(3600)
    assert [(name, gone.total_seconds()) for name, gone in seen] == [("a", 10), ("b", 20), ("c", 30)]
    assert world.clock.elapsed == timedelta(hours=1)


@pytest.mark.parametrize("app", ["memory"], indirect=True)
def test_an_eta_far_away_is_reached_in_one_settle(world, add):
    """Settle jumps from due time to due time."""
    add.apply_async((1, 2), eta=world.clock.now + timedelta(days=300))
    assert [job.result for job in world.settle()] == [3]
    assert world.clock.elapsed == timedelta(days=300)


def test_expired_jobs_are_revoked(world, add):
    """A job that comes after its expiry never runs."""
    add.apply_async((1, 2), countdown=60, expires=30)
    world.settle()
    job = world.all.one
    assert (job.state, job.attempts) == ("revoked", ())
    with pytest.raises(TaskRevokedError):
        job.result  # noqa: B018


def test_revoke_reaches_our_worker(world, add):
    """A revoked job is discarded when it comes."""
    result = add.apply_async((1, 2), countdown=60)
    result.revoke()
    world.settle()
    assert world.all.one.state == "revoked"
    assert result.state == "REVOKED"


def test_inspect_answers_from_our_worker(world, app, add):
    """Remote control is answered in process."""
    world.run(add, 1, 2)
    assert add.name in next(iter(app.control.inspect().registered().values()))


def test_inspect_knows_what_waits(world, app, add):
    """Until its time has come."""
    eta = world.clock.now + timedelta(seconds=60)
    result = add.apply_async((1, 2), countdown=60)
    world.drain()
    (told,) = next(iter(app.control.inspect().scheduled().values()))
    assert (told["eta"], told["request"]["id"]) == (eta.isoformat(), result.id)
    world.settle()
    assert app.control.inspect().scheduled() == {"jobs@localhost": []}


def without_backend(**conf):
    return Celery("bare", broker="memory://localhost/", set_as_current=False, **conf)


@pytest.mark.parametrize("eager", [False, True])
def test_results_without_a_backend(world, eager):
    """Test code gets every result."""
    bare = without_backend(task_always_eager=eager)

    @bare.task(shared=False)
    def halve(n):
        if n % 2:
            raise ValueError(n)
        return n // 2

    assert halve.delay(8).get() == 4
    with pytest.raises(ValueError, match="3"):
        halve.delay(3).get()
    later = halve.apply_async((6,), countdown=60)
    if not eager:
        assert (later.ready(), later.state) == (False, "PENDING")
        with pytest.raises(TimeoutError):
            later.get(timeout=59)
    assert later.get(timeout=1) == 3
    assert (later.successful(), later.state) == (True, "SUCCESS")
    assert group(halve.s(n) for n in (2, 4)).delay().get() == [1, 2]
    assert halve.apply_async((3,)).get(propagate=False).args == (3,)
    with pytest.raises(WouldWaitForever):
        bare.AsyncResult("nobody").get()


def test_jobs_are_refused_results_without_a_backend(world):
    """As in production."""
    bare = without_backend()

    @bare.task(shared=False, bind=True)
    def ask(self, how):
        return getattr(bare.AsyncResult(self.request.id), how)()

    for how in ("ready", "forget"):
        assert isinstance(world.run(ask, how).error, NotImplementedError)
    assert isinstance(world.run(ask, "get").error, RuntimeError | NotImplementedError)


def test_purge_empties_the_queue(world, app, add):
    """A purged message is gone, and its job with it."""
    add.delay(1, 2)
    world.run(add, 1, 1)
    add.delay(3, 4)
    assert app.control.purge() == 1
    assert [job.args for job in world.lost] == [(3, 4)]


def test_get_runs_the_worker_and_moves_time(world, add):
    """Waiting for a result never blocks."""
    assert add.apply_async((1, 2), countdown=600).get() == 3
    assert world.clock.elapsed == timedelta(minutes=10)


def test_get_with_a_timeout_stops_there(world, add):
    """A timeout counts in virtual time."""
    result = add.apply_async((1, 2), countdown=600)
    with pytest.raises(TimeoutError):
        result.get(timeout=60)
    assert world.clock.elapsed == timedelta(minutes=1)


def test_ready_runs_what_is_due_but_moves_no_time(world, add):
    """Looking at a result is no waiting."""
    assert add.delay(1, 2).ready()
    assert not add.apply_async((1, 2), countdown=5).ready()
    assert world.clock.elapsed == timedelta(0)


def test_a_result_that_never_comes_is_said_at_once(world, app, add):
    """Waiting for a job that was lost ends with a sentence instead of a hang."""
    world.lose()
    with pytest.raises(WouldWaitForever, match=r"the result of .*add was waited for, but the job is lost"):
        add.delay(1, 2).get()


def test_sleep_in_a_task_moves_the_clock(world, app):
    """Whole nights pass in no time, however sleep was imported."""

    @app.task(shared=False)
    def nap():
        time.sleep(8 * 3600)
        return time.time()

    before = time.time()
    assert world.run(nap).result - before == 8 * 3600
    sleep(60)
    assert world.clock.elapsed == timedelta(hours=8, minutes=1)


def test_sleep_in_test_code_runs_what_becomes_due(world, add):
    """Polling loops around results end."""
    result = add.apply_async((1, 2), countdown=30)
    while not result.ready():
        time.sleep(1)
    assert world.clock.elapsed == timedelta(seconds=30)


def test_canvas(world, add, app):
    """Chains, groups, chords, links and errbacks run through the real path."""
    said = []

    @app.task(shared=False)
    def total(numbers):
        return sum(numbers)

    @app.task(shared=False)
    def boom():
        raise ValueError("no")

    @app.task(shared=False)
    def tell(request, exc, traceback):
        said.append(str(exc))

    assert chain(add.s(1, 2), add.s(10)).delay().get() == 13
    assert group(add.s(i, i) for i in range(4)).delay().get() == [0, 2, 4, 6]
    assert chord([add.s(i, i) for i in range(4)])(total.s()).get() == 12
    world.run(add.s(1, 1).set(link=add.s(5)))
    assert world.all[-1].result == 7
    boom.apply_async(link_error=tell.s())
    world.settle()
    assert said == ["no"]


def test_replace_keeps_the_id(world, app, add):
    """A replaced job is one job with the replacement's result."""

    @app.task(shared=False, bind=True)
    def swap(self):
        raise self.replace(add.s(4, 5))

    assert world.run(swap).result == 9


def test_parent_and_children(world, app, add):
    """Jobs know who published them."""

    @app.task(shared=False)
    def fan(n):
        for i in range(n):
            add.delay(i, i)

    job = world.run(fan, 3)
    assert [child.result for child in job.children] == [0, 2, 4]
    assert job.children[0].parent == job
    assert job.parent is None
    assert world.all.of(add) == list(job.children)


def test_drain_can_be_narrowed(world, app, add):
    """One task, one queue, so many, with or without spawned jobs."""

    @app.task(shared=False)
    def parent():
        add.delay(1, 1)

    for number in range(3):
        add.delay(number, 0)
    add.apply_async((9, 9), queue="slow")
    assert [job.args for job in world.drain(queue="slow")] == [(9, 9)]
    assert [job.args for job in world.drain(limit=1)] == [(0, 0)]
    parent.delay()
    assert [job.name for job in world.drain(task=parent)] == [parent.name]
    assert [job.args for job in world.drain(spawned=False)] == [(1, 0), (2, 0), (1, 1)]
    parent.delay()
    assert [job.name for job in world.drain(spawned=False)] == [parent.name]
    assert len(world.pending) == 1


def test_order_is_first_in_first_out(world, app):
    """Messages of one queue run in publish order, held ones stay in place."""
    seen = []

    @app.task(shared=False)
    def note(n):
        seen.append(n)

    for number in range(5):
        note.delay(number)
    world.drain(limit=2)
    world.drain()
    assert seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("app", ["redis"], indirect=True)
def test_redis_priorities(world, app):
    """On Redis 0 is the most urgent, as kombu has it."""
    seen = []

    @app.task(shared=False)
    def note(n):
        seen.append(n)

    for priority in (9, 0, 6):
        note.apply_async((priority,), priority=priority)
    world.drain()
    assert seen == [0, 6, 9]


@pytest.mark.parametrize(
    "queue", [Queue("celery", queue_arguments={"x-max-priority": 10}), Queue("celery", max_priority=10)], ids=["argument", "option"]
)
def test_memory_priorities_follow_x_max_priority(world, queue):
    """On AMQP the highest goes first, in queues declared with x-max-priority."""
    app = Celery("shop", broker="amqp://nowhere", set_as_current=False)
    app.conf.task_queues = [queue]
    seen = []

    @app.task(shared=False)
    def note(n):
        seen.append(n)

    for priority in (1, 9, 5):
        note.apply_async((priority,), priority=priority)
    world.drain()
    assert seen == [9, 5, 1]


def test_class_based_shared_and_bound_tasks(world, app):
    """Every way of writing a task works."""

    class Double(Task):
        name = "shop.double"

        def run(self, n):
            return 2 * n

    double = app.register_task(Double())
    assert world.run(double, 4).result == 8

    @app.task(shared=False, bind=True, ignore_result=True)
    def bound(self, n):
        return (self.request.id, self.request.retries, self.name, n)

    job = world.run(bound, 1)
    assert job.result == (job.id, 0, bound.name, 1)
    app.set_current()
    try:
        assert world.run(triple, 2).result == 6
    finally:
        from celery import _state

        _state._tls.current_app = None


def test_several_apps_in_one_process(world):
    """Every app's jobs run in its own worker, whatever the names."""
    apps = [Celery("shop", broker="memory://localhost/", set_as_current=False) for _ in range(2)]


    def first():
        return 0

    def second():
        return 1

    tasks = [app.task(body, name="shop.same", shared=False) for app, body in zip(apps, (first, second), strict=True)]
    assert [world.run(task).result for task in tasks] == [0, 1]


def test_send_task_by_name_reaches_the_app_that_knows_it(world):
    """An app may publish what another one runs."""
    sender, runner = (Celery("shop", broker="amqp://one", set_as_current=False) for _ in range(2))

    @runner.task(shared=False, name="shop.there")
    def there():
        return "there"

    runner.finalize()
    sender.send_task("shop.there")
    world.settle()
    assert world.all.one.result == "there"


def test_an_unknown_task_fails_as_in_production(world, app, add):
    """A name no worker knows is rejected; the job failed."""
    app.send_task("shop.nobody")
    world.settle()
    assert (world.all.one.state, type(world.all.one.error).__name__) == ("failed", "NotRegistered")


def test_custom_serializers(world):
    """What the serializer refuses is refused, what it keeps comes through."""
    app = Celery("shop", broker="memory://localhost/", set_as_current=False)
    app.conf.update(task_serializer="pickle", accept_content=["pickle"], result_serializer="pickle")

    @app.task(shared=False)
    def give(thing):
        return thing

    assert world.run(give, {1, 2}).result == {1, 2}


def test_arguments_the_serializer_refuses(world, app, add):
    """A set cannot be JSON: the publish fails and leaves no job."""
    from kombu.exceptions import EncodeError

    with pytest.raises(EncodeError):
        add.delay(object(), 1)
    assert world.all == []


def test_autoretry_and_its_delays(world, app):
    """The whole backoff schedule passes in virtual time."""

    @app.task(shared=False, autoretry_for=(Transient,), retry_backoff=True, retry_jitter=False)
    def flaky():
        raise Transient("no")

    job = world.run(flaky)
    assert job.dead
    assert job.delays == [1, 2, 4]
    assert [attempt.retries for attempt in job.attempts] == [0, 1, 2, 3]
    with pytest.raises(Transient):
        job.result  # noqa: B018


def test_retries_run_out(world, app):
    """Without an error of its own a job dies of MaxRetriesExceededError."""

    @app.task(shared=False, bind=True, max_retries=2, default_retry_delay=7)
    def again(self):
        raise self.retry()

    job = world.run(again)
    assert (job.delays, type(job.error)) == ([7, 7], MaxRetriesExceededError)


def test_a_job_between_attempts_is_retrying(world, app):
    """It waits for its retry, and is listed among the scheduled."""

    @app.task(shared=False, bind=True, max_retries=2)
    def again(self):
        raise self.retry(countdown=60)

    again.delay()
    world.drain()
    assert [job.state for job in world.scheduled] == ["retrying"]
    with pytest.raises(JobNotFinished):
        world.all.one.result  # noqa: B018


def test_reject_and_ignore(world, app):
    """Rejected jobs are dead; a requeue after an early ack loses the job."""
    from celery.exceptions import Ignore, Reject

    @app.task(shared=False, acks_late=True)
    def refuse():
        raise Reject("bad", requeue=False)

    @app.task(shared=False)
    def requeue():
        raise Reject("later", requeue=True)

    @app.task(shared=False)
    def ignore():
        raise Ignore

    assert (world.run(refuse).state, world.dead.one.name) == ("rejected", refuse.name)
    lost = world.run(requeue)
    assert (lost.lost, len(lost.attempts)) == (True, 1)
    with pytest.raises(JobLost):
        lost.result  # noqa: B018
    assert world.run(ignore).attempts[0].outcome == "ignored"


def test_late_reject_with_requeue_runs_again_marked(world, app):
    """A late-acknowledged requeue comes back with the flag, on either broker."""
    from celery.exceptions import Reject

    seen = []

    @app.task(shared=False, bind=True, acks_late=True)
    def twice(self):
        seen.append(self.request.delivery_info["redelivered"])
        if len(seen) < 3:
            raise Reject("later", requeue=True)

    assert world.run(twice).succeeded
    assert [bool(flag) for flag in seen] == [False, True, True]


def one():
    return 1


def test_no_server_is_ever_reached(world, monkeypatch):
    """While active, no socket is opened for a broker or a backend."""
    import socket

    def refuse(*args):
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for url in ("amqp://nowhere", "redis://nowhere:1/0", "rediss://nowhere:1/0"):
        app = Celery("shop", broker=url, backend="redis://nowhere:1/1", set_as_current=False)
        task = app.task(one, name="shop.one", shared=False)
        assert world.run(task).result == 1
        assert task.delay().get() == 1


def test_configuration_reads_as_configured(world, app):
    """The transport is swapped beneath the configuration."""
    before = app.conf.broker_url, app.conf.result_backend
    assert before[0].startswith(("memory", "redis"))


def test_redis_is_shared_by_url(world):
    """Broker, backend and jobs.redis of one server are one server."""
    app = Celery("shop", broker="redis://here:6379/0", backend="redis://here:6379/0", set_as_current=False)
    app.task(one, name="shop.one", shared=False).delay()
    assert world.redis.llen("celery") == 1
    app.backend.client.set("key", "value")
    assert world.redis.get("key") == b"value"


def test_inline_when_the_app_was_eager(app):
    """A publish from test code is settled at once, through the real path, and eager mode comes back."""
    app.conf.task_always_eager = True

    @app.task(shared=False, bind=True, max_retries=1)
    def once_more(self):
        if not self.request.retries:
            raise self.retry(countdown=3600)
        return self.request.is_eager

    with in_process_worker() as jobs:
        once_more.delay()
        assert jobs.all.one.result is False
        assert jobs.clock.elapsed == timedelta(hours=1)
    assert app.conf.task_always_eager is True


def test_eager_apps_that_propagate_raise(app):
    """task_eager_propagates keeps its meaning."""
    app.conf.update(task_always_eager=True, task_eager_propagates=True)

    @app.task(shared=False)
    def boom():
        raise ValueError("no")

    with in_process_worker(), pytest.raises(ValueError, match="no"):
        boom.delay()


def test_a_frozen_test_keeps_its_instant(add):
    """A freeze that is there already is driven, and given back as it was."""
    with freeze_time("2012-01-14 12:00:01") as frozen:
        with in_process_worker() as jobs:
            assert jobs.clock.now == datetime(2012, 1, 14, 12, 0, 1, tzinfo=UTC)
            frozen.tick(10)
            assert jobs.clock.elapsed == timedelta(seconds=10)
            jobs.advance(50)
            assert datetime.now() == datetime(2012, 1, 14, 12, 1, 1)  # noqa: DTZ001, DTZ005
        assert datetime.now() == datetime(2012, 1, 14, 12, 0, 11)  # noqa: DTZ001, DTZ005


def test_start_can_be_given():
    """The clock starts where it is told."""
    with in_process_worker(start="2030-01-31T09:00:00+00:00") as jobs:
        assert jobs.clock.now == datetime(2030, 1, 31, 9, tzinfo=UTC)
        assert datetime.now(UTC).year == 2030


def test_redeliver_keeps_id_and_bytes(world, app):
    """The same message comes once more, with the flag."""
    seen = []

    @app.task(shared=False, bind=True)
    def note(self, items):
        items.append(1)
        seen.append((self.request.id, list(items), bool(self.request.delivery_info["redelivered"])))
        return len(seen)

    first = world.run(note, [])
    again = world.redeliver(first)
    assert seen == [(first.id, [1], False), (first.id, [1], True)]
    assert again == first
    assert (again.result, len(again.attempts), again.attempts[1].redelivered) == (1, 2, True)
    assert [attempt.value for attempt in again.attempts] == [1, 2]


def test_nesting_is_refused(world):
    """Worlds do not nest."""
    with pytest.raises(UsageError, match="do not nest"), in_process_worker():
        pass


def test_jobs_cannot_be_run_from_inside_a_task(world, app):
    """Only test code runs the worker."""

    @app.task(shared=False)
    def inner():
        world.drain()

    assert "from inside the task" in str(world.run(inner).error)


def test_everything_is_restored_after_an_exception(add):
    """Also when the block fails."""
    with pytest.raises(KeyboardInterrupt), in_process_worker() as jobs:
        jobs.run(add, 1, 2)
        raise KeyboardInterrupt
    assert threading.active_count() >= 1
    with in_process_worker() as jobs:
        assert jobs.run(add, 1, 2).result == 3


def test_jitter_stays_random_but_seeded(world, app):
    """Celery's jitter draws from `random`, which tests may seed."""

    @app.task(shared=False, autoretry_for=(Transient,), retry_backoff=60)
    def flaky():
        raise Transient

    random.seed(7)
    first = world.run(flaky).delays
    random.seed(7)
    assert world.run(flaky).delays == first


def test_on_success_and_signals_run(world, app):
    """Hooks run as in production."""
    from celery.signals import task_postrun, task_prerun

    seen = []

    def note(**kwargs):
        seen.append(kwargs["signal"].name)

    class Hooked(Task):
        def on_success(self, retval, task_id, args, kwargs):
            seen.append("on_success")

    @app.task(shared=False, base=Hooked)
    def one():
        return 1

    for signal in (task_prerun, task_postrun):
        signal.connect(note, weak=False)
    try:
        world.run(one)
    finally:
        for signal in (task_prerun, task_postrun):
            signal.disconnect(note)
    assert seen == ["task_prerun", "on_success", "task_postrun"]
