"""What a dead task leaves is what was durable when it died, and no job after it notices anything."""

import re
import sqlite3
import threading

import pytest

from pytest_jobs.schedules import Schedule
from tests.kill.test_everywhere import load

MOST = 200
worldly = load("worldly")
threaded = load("threaded")


def look(folder, redis):
    """Return what another process would see: rows that are committed, files as they lie there, keys of Redis."""
    with sqlite3.connect(folder / "shop.db") as connection:
        rows = [row for (row,) in connection.execute("SELECT state FROM paid")]
    connection.close()
    out = {path.name[0]: path.read_text() for path in (folder / "out").glob("*") if path.is_file()}
    keys = sorted(key.decode() for key in redis.scan_iter() if re.match(rb"lock:|paid:|count|total", key))
    return rows, out, [(key, redis.get(key) if not key.startswith("lock") else None) for key in keys]


@pytest.fixture
def folder(tmp_path):
    """A folder with a database and an empty place for files."""
    (tmp_path / "out").mkdir()
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("CREATE TABLE paid (state TEXT)")
    connection.close()
    return tmp_path


@pytest.mark.parametrize("function", worldly.TASKS, ids=lambda task: task.__name__)
def test_nothing_reaches_the_world(cemetery, folder, function):
    """At the next delivery the world is as it was when the task died: locks in Redis stay, transactions do not."""
    task = cemetery.task(function)
    worlds = []
    with cemetery.open() as jobs:
        redis = jobs.redis
        worldly.redis, worldly.folder, worldly.look = redis, folder, lambda: look(folder, redis)
        cemetery.witness = worldly.look
        for number in range(2, MOST):
            job = jobs.deliver(task, schedule=Schedule("crash", number))
            if len(job.attempts) == 1:
                break
            assert [attempt.outcome for attempt in job.attempts] == ["killed", "succeeded"]
            _, found = cemetery.seen
            (died,) = cemetery.at_death
            assert found == died
            worlds.append(died)
            cemetery.seen.clear()
            cemetery.at_death.clear()
            jobs.settle()
    assert len({repr(world) for world in worlds}) >= 2


def test_later_jobs_are_untouched(cemetery):
    """After all the deaths of one task another one runs as if there had been none, in the same worker."""
    tasks = [cemetery.task(function) for name in ("plain", "loops") for function in load(name).TASKS]
    with cemetery.open() as jobs:
        alone = [cemetery.undisturbed(jobs, task) for task in tasks]
        for task in tasks:
            jobs.deliver(task, schedule=Schedule("crash", 3))
            cemetery.seen.clear()
        assert [cemetery.undisturbed(jobs, task) for task in tasks] == alone


def test_a_thread_that_waits_in_c_is_named(cemetery):
    """Nothing can stop it, so a warning says which thread and where; when it comes out of C it goes no further."""
    task = cemetery.task(threaded.stuck)
    with pytest.warns(RuntimeWarning) as warned, cemetery.open() as jobs:
        line = threaded.stuck.__code__.co_firstlineno + 7
        jobs.crash(f"threaded.py:{line}")
        job = jobs.run(task)
        (dead,) = [thread for thread in threading.enumerate() if thread.name == "deaf"]
        threaded.deaf[0].set()
        dead.join()
        assert cemetery.seen == ["stuck", "out of C"]
    line = threaded.stay.__code__.co_firstlineno + 2
    assert [attempt.outcome for attempt in job.attempts] == ["killed", "succeeded"]
    assert [str(each.message) for each in warned] == [
        f"a killed task cannot be stopped: the thread 'deaf' still waits at threaded.py:{line}"
    ]


def test_lines_after_the_end_of_a_thread_are_points(cemetery):
    """A thread of the task that ends does not take the lines of the task's own thread along."""
    task = cemetery.task(threaded.joined)
    with cemetery.open() as jobs:
        fault = jobs.crash(f"threaded.py:{threaded.joined.__code__.co_firstlineno + 5}")
        assert [attempt.outcome for attempt in jobs.run(task).attempts] == ["killed", "succeeded"]
        assert fault.fired == 1
    assert cemetery.at_death == [["begin thread", "end thread", "finally thread"]]
