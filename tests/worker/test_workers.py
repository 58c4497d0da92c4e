"""Several workers on several queues, side by side in virtual time."""

import threading
import time

import pytest
from celery import VERSION, Celery

from pytest_jobs import RunawayJobs, UsageError, in_process_worker

URLS = {"memory": ("memory://localhost/", "cache+memory://"), "redis": ("redis://localhost:6399/0", "redis://localhost:6399/1")}


@pytest.fixture(params=["memory", "redis"])
def app(request):
    """An app with a bulk task of an hour and an urgent one of a second."""
    broker, backend = URLS[request.param]
    app = Celery("workers", broker=broker, backend=backend, set_as_current=False)
    app.conf.task_routes = {"bulk": "bulk", "urgent": "urgent", "both": "urgent"}
    app.conf.broker_transport_options = {"visibility_timeout": 86400}
    app.log = []

    @app.task(name="bulk", shared=False)
    def bulk(number=0):
        time.sleep(3600)
        app.log.append(f"bulk {number}")
        return number

    @app.task(name="urgent", shared=False)
    def urgent(number=0):
        time.sleep(1)
        app.log.append(f"urgent {number}")
        return number

    @app.task(name="both", shared=False)
    def both():
        app.tasks["bulk"].delay(7)

    app.bulk, app.urgent, app.both = bulk, urgent, both
    return app


@pytest.fixture
def world(app):
    """A world of that app."""
    with in_process_worker(app) as jobs:
        yield jobs
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("jobs-thread")] == []


def starts(world, task):
    """Return when the jobs of a task began, in whole seconds since the world did."""
    return [int((job.attempts[0].started_at - world._worker.began).total_seconds()) for job in world.all.of(task)]


def test_one_worker_for_all_lets_the_urgent_wait(world, app):
    """Three hours of bulk stand before what takes a second."""
    for number in range(3):
        app.bulk.delay(number)
    app.urgent.delay()
    world.settle(workers={"bulk,urgent": 1})
    assert starts(world, app.bulk) == [0, 3600, 7200]
    assert starts(world, app.urgent) == [10800]
    assert world.metrics.waited == {"bulk": 7200.0, "urgent": 10800.0}


def test_a_worker_of_its_own_lets_the_urgent_pass(world, app):
    """They run side by side: all is done after three hours."""
    for number in range(3):
        app.bulk.delay(number)
        app.urgent.delay(number)
    ran = world.settle(workers={"bulk": 1, "urgent": 1})
    assert len(ran) == 6
    assert starts(world, app.urgent) == [0, 1, 2]
    assert starts(world, app.bulk) == [0, 3600, 7200]
    assert world.clock.elapsed.total_seconds() == 10800
    assert app.log[:3] == ["urgent 0", "urgent 1", "urgent 2"]


def test_children_of_one_worker_share_its_queues(world, app):
    """Four jobs of an hour in two children are two hours."""
    for number in range(4):
        app.bulk.delay(number)
    world.settle(workers={"bulk": 2})
    assert starts(world, app.bulk) == [0, 0, 3600, 3600]
    assert [job.result for job in world.all] == [0, 1, 2, 3]


def publish_one_long_and(number, app, **options):
    """Publish a job of an hour and so many of a second, all to one queue."""
    app.bulk.apply_async(queue="one", **options)
    for each in range(number):
        app.urgent.apply_async((each,), queue="one", **options)


@pytest.mark.parametrize(
    ("conf", "behind"),
    [
        ({}, [1, 3, 5, 7]),
        ({"worker_prefetch_multiplier": 1}, [1]),
        ({"worker_prefetch_multiplier": 1, "acks_late": True}, []),
        ({"acks_late": True}, [1, 3, 5]),
        ({"worker_prefetch_multiplier": 0}, [1, 3, 5, 7, 9]),
    ],
    ids=["default", "one", "one, late", "late", "no limit"],
)
def test_one_long_job_blocks_what_its_worker_holds(world, app, conf, behind):
    """A worker takes four messages for each child that it has not acknowledged, in turn with the other, which idles after five seconds."""
    app.bulk.acks_late = app.urgent.acks_late = conf.get("acks_late", False)
    app.conf.worker_prefetch_multiplier = conf.get("worker_prefetch_multiplier", 4)
    publish_one_long_and(10, app)
    world.settle(workers={"one": [1, 1]})
    waited = starts(world, app.urgent)
    assert [number for number, start in enumerate(waited) if start >= 3600] == behind
    assert max(start for start in waited if start < 3600) == 9 - len(behind)


def test_more_children_hold_more(world, app):
    """Two children take eight messages; what one holds back the other may begin."""
    publish_one_long_and(10, app)
    world.settle(workers={"one": 2})
    assert starts(world, app.urgent) == list(range(10))


def test_what_waits_for_its_time_takes_nobodys_place(world, app):
    """Celery raises the limit for it."""
    for number in range(8):
        app.urgent.apply_async((number,), queue="one", countdown=7200)
    publish_one_long_and(4, app)
    world.settle(workers={"one": [1, 1]})
    assert sorted(starts(world, app.urgent))[:4] == [0, 1, 3600, 3601]


@pytest.mark.skipif(VERSION < (5, 6), reason="worker_disable_prefetch is there from Celery 5.6 on")
def test_prefetch_can_be_turned_off_on_redis(world, app):
    """`worker_disable_prefetch`: a worker takes what its children are free for; other brokers do not know it."""
    app.conf.worker_disable_prefetch = True
    publish_one_long_and(4, app)
    world.settle(workers={"one": [1, 1]})
    redis = app.conf.broker_url.startswith("redis")
    assert (max(starts(world, app.urgent)) < 3600) is redis


def test_what_a_worker_holds_ages_on_redis(world, app):
    """Behind a job that runs longer than the visibility timeout, what was prefetched is handed out again, and runs twice."""
    app.conf.broker_transport_options = {"visibility_timeout": 1800}
    publish_one_long_and(2, app)
    world.settle(workers={"one": [1, 1]})
    redis = app.conf.broker_url.startswith("redis")
    assert [[attempt.redelivered for attempt in job.attempts] for job in world.all.of(app.urgent)] == [
        [False], [True, False] if redis else [False],
    ]


def test_what_nobody_consumes_stays(world, app):
    """The queue was forgotten when the workers were deployed."""
    app.bulk.delay()
    app.urgent.delay()
    world.settle(workers={"urgent": 1})
    assert [job.name for job in world.pending] == ["bulk"]
    world.settle()


def test_spawned_and_scheduled_jobs_take_their_turn(world, app):
    """A child job goes to the worker of its queue; a countdown waits for a free child, too."""
    app.both.delay()
    app.bulk.apply_async((1,), countdown=60)
    app.bulk.apply_async((2,), countdown=90)
    world.settle(workers={"urgent": 1, "bulk": 1})
    begun = sorted((attempt.started_at - world._worker.began).total_seconds() for job in world.all.of(app.bulk) for attempt in job.attempts)
    assert begun[:3] == [0, 3600, 7200]
    assert world.all.of(app.both).one.children[0].succeeded


def test_a_hard_time_limit_frees_the_child(world, app):
    """The job that was killed fails, the next one begins then."""
    app.bulk.apply_async((1,), time_limit=600)
    app.bulk.apply_async((2,))
    world.settle(workers={"bulk": 1})
    assert [job.state for job in world.all] == ["failed", "succeeded"]
    assert starts(world, app.bulk) == [0, 600]


def test_a_lock_between_two_jobs(world, app):
    """The one that waits for it goes on when the other one lets it go."""
    lock = threading.Lock()

    @app.task(name="locked", shared=False)
    def locked():
        with lock:
            time.sleep(60)

    locked.delay()
    locked.delay()
    world.settle(workers={"celery": 2})
    assert [job.state for job in world.all] == ["succeeded", "succeeded"]
    assert world.clock.elapsed.total_seconds() == 120


def test_retries_and_errors(world, app):
    """An error in one job is its own."""

    @app.task(name="flaky", shared=False, autoretry_for=(ValueError,), retry_backoff=10, retry_jitter=False, max_retries=1)
    def flaky():
        raise ValueError("no")

    flaky.delay()
    app.urgent.delay()
    world.settle(workers={"celery": 1, "urgent": 1})
    assert [job.state for job in world.all] == ["failed", "succeeded"]
    assert world.all.of(flaky).one.delays == [10]


def test_the_limit_of_settle(world, app):
    """Something that is still asleep beyond it is said."""
    app.bulk.delay()
    with pytest.raises(RunawayJobs, match="beyond the limit of settle"):
        world.settle(60, workers={"bulk": 1})


@pytest.mark.parametrize(
    ("workers", "says"),
    [
        ({}, r"was given workers=\{\}; allowed is a mapping such as"),
        ([("bulk", 1)], r"was given workers=\[.*; allowed is a mapping such as"),
        (
            {"bulk": 0},
            "was given 0 children for 'bulk'; allowed is a whole number from 1, or a list of such numbers for several workers$",
        ),
        ({"bulk": [1, 0]}, r"was given \[1, 0\] children for 'bulk'; allowed is a whole number from 1, or a list"),
        ({"bulk": []}, r"was given \[\] children for 'bulk'; allowed is a whole number from 1, or a list"),
        ({"bulk,": 1}, "was given a worker of the queues 'bulk,'; allowed are names with commas between them"),
    ],
)
def test_misuse(world, workers, says):
    """One sentence each."""
    with pytest.raises(UsageError, match=says):
        world.settle(workers=workers)


def test_kills_are_for_one_worker(world, app):
    """They are refused instead of simulated half."""
    fault = world.crash(app.urgent)
    with pytest.raises(UsageError, match=r"jobs.settle\(workers=…\) cannot run while jobs.crash\(urgent\) is armed"):
        world.settle(workers={"urgent": 1})
    world.run(app.urgent)
    assert fault.fired == 1
