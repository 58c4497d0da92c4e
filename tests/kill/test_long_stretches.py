"""A body that runs long without doing anything: its lines are no longer looked at, until it does something."""

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import fakeredis
import pytest
from celery import Celery
from celery.result import allow_join_result

from pytest_jobs import execution, in_process_worker

STRETCH = 50  # lines, instead of five hundred
app = Celery("long", broker="memory://localhost/", backend="cache+memory://", set_as_current=False)
client = fakeredis.FakeRedis()
seen = []


def count(number):
    """Run many lines."""
    total = 0
    while number:
        number -= 1
        total += number
    return total


def told():
    """Be entered while nobody looks, and say something."""
    count(2_000)
    client.incr("told")
    return 1


def numbers():
    """Yield twice, with a long stretch in between."""
    count(2_000)
    yield 1
    client.incr("numbers")
    yield 2


@app.task(shared=False, acks_late=True)
def long(number):
    """Count, say it, and go on."""
    client.incr("before")
    count(number)
    client.incr("between")
    count(number)
    client.incr("after")


@app.task(shared=False, acks_late=True)
def helped():
    """Let others say it."""
    told()
    return sum(numbers())


@app.task(shared=False, acks_late=True, time_limit=30)
def sleepy():
    """Count and sleep for ever."""
    try:
        while count(STRETCH) or True:
            time.sleep(1)
    finally:
        seen.append("cleaned up")


@app.task(shared=False, acks_late=True, time_limit=10)
def inner():
    """Die of its time limit."""
    try:
        time.sleep(60)
    finally:
        seen.append("cleaned up")


@app.task(shared=False, acks_late=True)
def outer():
    """Count, then wait for a job that dies."""
    count(3 * STRETCH)
    with allow_join_result(), suppress(Exception):
        inner.delay().get()
    seen.append("went on")


@app.task(shared=False, acks_late=True)
def in_threads():
    """Count, then let a thread do something, and go on."""
    count(3 * STRETCH)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(client.incr, "in a thread").result()
    seen.append(1)
    seen.append(2)


@app.task(shared=False)
def watched():
    """Fill a list."""
    while len(seen) < 2_000:
        seen.append(1)


@pytest.fixture
def world(monkeypatch):
    """A world whose project is this file."""
    monkeypatch.setattr(execution, "STRETCH", STRETCH)
    seen.clear()
    client.flushall()
    with in_process_worker(app, source=[__file__]) as jobs:
        yield jobs


def deaths(jobs, task, *args):
    """Kill it at every point; return the line at which it died, for each."""
    found = []
    for number in range(1, 20 * STRETCH):
        with jobs.fresh():
            try:
                job = jobs.deliver(task, *args, schedule=f"crash@{number}")
            except AssertionError as error:
                assert "found nothing to do" in str(error)
                return found
            assert [attempt.outcome for attempt in job.attempts] == ["killed", "succeeded"]
            found.append(int(job.attempts[0].fault.partition(f"{__file__.rpartition('/')[2]}:")[2].split()[0]))
    raise AssertionError("its points come to no end")


def lines_of(function):
    """Return the numbers of a function's lines, without that of its `def`."""
    first, *lines = sorted({line for _, _, line in function.__code__.co_lines() if line})
    assert first == function.__code__.co_firstlineno
    return lines


def test_as_few_points_as_there_are_things_that_happen(world):
    """However long it counts, a stretch has the same number of points."""
    found = deaths(world, long, STRETCH)
    assert found == deaths(world, long, 40 * STRETCH)
    assert 2 * STRETCH < len(found) < 2 * STRETCH + 30
    assert {*lines_of(long.__wrapped__)} == {*found} - {*lines_of(count)}


def test_what_happens_next_is_seen_again(world):
    """The lines after an effect are points, also in a function that was entered and a generator that slept meanwhile."""
    found = {*deaths(world, helped)}
    for function in (told, numbers, helped.__wrapped__):
        assert lines_of(function)[-1] in found


def test_the_place_of_what_happens_next(world):
    """It is where the code is, not where it was looked at last."""
    with pytest.raises(AssertionError, match="found nothing to do"):
        world.deliver(helped, schedule="crash@9000")
    places = [int(effect.where.rpartition(":")[2]) for effect in world.effects]
    assert places == [lines_of(told)[-2], lines_of(numbers)[-2]]


def test_a_time_limit_in_a_long_stretch(world):
    """A kill there runs no cleanup."""
    with pytest.raises(AssertionError, match="found nothing to do"):
        world.deliver(sleepy, schedule="crash@9000")
    assert [job.state for job in world.all] == ["failed"]
    assert seen == []


def test_a_job_within_a_long_stretch_dies_as_any_other(world):
    """Python 3.11: nobody looked, and its cleanup ran."""
    with pytest.raises(AssertionError, match="found nothing to do"):
        world.deliver(outer, schedule="crash@9000")
    assert seen == ["went on"]


def test_after_threads_lines_are_seen_again(world):
    """Those of the thread that started them."""
    found = {*deaths(world, in_threads)}
    assert lines_of(in_threads.__wrapped__)[-1] in found


def test_watched_values_make_points_of_their_own(world):
    """Every line can be a point of its own there, and stays one."""
    world.watch(seen, name="seen")
    with world.fresh():
        job = world.deliver(watched, schedule="crash@3000")
    assert job.attempts[0].outcome == "killed"


def test_the_tracer_that_was_there_is_back():
    """Whoever traced before us goes on."""
    before, lines = sys.gettrace(), []

    def tracer(frame, event, arg):
        if frame.f_code is count.__code__ and threading.current_thread() is threading.main_thread():
            lines.append(event)
            return tracer
        return None

    sys.settrace(tracer)
    try:
        with in_process_worker(app, source=[__file__]) as jobs:
            jobs.deliver(long, 3_000, schedule="crash@20")
        kept = sys.gettrace()
    finally:
        sys.settrace(before)
    assert kept is tracer
    assert lines.count("line") > 4 * 3_000
