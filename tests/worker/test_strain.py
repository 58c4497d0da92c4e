"""Memory that grows from run to run, and retries that come back as a herd."""

import pytest
from celery import Celery

from pytest_jobs import UsageError, in_process_worker

app = Celery("strain", broker="memory://localhost/", backend="cache+memory://", set_as_current=False)
seen = []
cache = {}


@app.task(name="strain.leaks", shared=False)
def leaks(number):
    """Remember each run for ever."""
    seen.append("x" * 100 + str(number))
    return number


@app.task(name="strain.bounded", shared=False)
def bounded(number):
    """Remember the last ten runs."""
    cache[len(cache) % 10] = ["y" * 100]
    return sum(range(number))


@app.task(name="strain.together", bind=True, shared=False, max_retries=2)
def together(self):
    """Come back after a fixed time."""
    try:
        reach()
    except ConnectionError as error:
        raise self.retry(exc=error, countdown=60) from error


@app.task(name="strain.apart", shared=False, autoretry_for=(ConnectionError,), retry_backoff=600, retry_jitter=True, max_retries=2)
def apart():
    """Come back at a random time."""
    reach()


def reach():
    """Stand for the service that is down."""


@pytest.fixture
def world():
    """An open worker; lines of this file are project code."""
    seen.clear()
    cache.clear()
    with in_process_worker(app) as jobs:
        yield jobs


def test_a_task_that_keeps_memory_is_found(world):
    """The line is named, with the bytes of a run."""
    with pytest.raises(AssertionError) as error:
        world.check_memory(leaks, 1, runs=100)
    text = str(error.value).splitlines()
    assert text[0].startswith("strain.leaks keeps 1")
    assert text[0].endswith("bytes more from run to run, in 100 runs")
    assert "test_strain.py:16" in text[2]


def test_a_task_that_keeps_only_so_much_is_clean(world):
    """A bounded cache is no growth."""
    world.check_memory(bounded, 1000, runs=100)


def test_a_herd_is_found(world):
    """A hundred jobs with one countdown come back in one second."""
    world.fail(f"{__name__}.reach", ConnectionError)
    with pytest.raises(AssertionError) as error:
        world.check_herd(together)
    assert str(error.value).splitlines()[:5] == [
        "strain.together comes back as a herd: 100 of 100 jobs retry in one second",
        "",
        "They failed at one instant. Retry 1 of each ran at:",
        "  00:01:00   100  ########################################",
        "",
    ]


def test_jitter_is_no_herd(world):
    """A random time apart, they come back one by one."""
    world.fail(f"{__name__}.reach", ConnectionError)
    world.check_herd(apart)


def test_what_never_failed_proves_nothing(world):
    """A herd can only be judged when there were retries."""
    with pytest.raises(AssertionError, match=r"strain.together was never retried in 100 jobs"):
        world.check_herd(together)


def test_misuse(world):
    """Each misuse is one sentence."""
    with pytest.raises(UsageError, match=r"jobs.check_memory was given runs=1; allowed is a whole number from 20"):
        world.check_memory(leaks, 1, runs=1)
    with pytest.raises(UsageError, match=r"jobs.check_herd was given jobs=1; allowed is a whole number from 2"):
        world.check_herd(apart, jobs=1)
