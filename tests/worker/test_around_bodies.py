"""What a project's own kind of task does around the body, in its `__call__`, belongs to the attempt."""

import pytest
from celery import Celery, Task

import pytest_jobs
from pytest_jobs.timeline import lines

done = []


class Around(Task):
    def __call__(self, *args, **kwargs):
        done.append("before")  # jobs: before
        if args == ("taken",):
            return "left alone"
        value = super().__call__(*args, **kwargs)
        done.append("after")  # jobs: after
        return f"{value}, wrapped"


app = Celery("shop", broker="memory://localhost/", set_as_current=False)


@app.task(base=Around, shared=False, acks_late=True, autoretry_for=(ConnectionError,), default_retry_delay=10)
def charge(order):
    done.append(order)
    return "paid"


@app.task(base=Around, bind=True, shared=False, max_retries=1)
def ask(self, twice):
    if twice and not self.request.retries:
        raise self.retry(countdown=10)
    self.request.seen = True
    return f"{self.request.id == self.request.root_id} {self.request.called_directly} {len(self.request_stack)}"


@app.task(base=Around, shared=False)
def name(task):
    return task


@pytest.fixture
def jobs():
    done.clear()
    call = vars(Around)["__call__"]
    with pytest_jobs.in_process_worker(app) as jobs:
        yield jobs
    assert vars(Around)["__call__"] is call
    assert "__call__" not in vars(type(charge))


def test_its_value_is_the_result(jobs):
    """As the caller sees it."""
    assert jobs.run(charge, 7).result == "paid, wrapped"
    assert done == ["before", 7, "after"]


def test_it_may_leave_the_body_out(jobs):
    """That is an attempt like any other, and no worker's doing."""
    job = jobs.run(charge, "taken")
    assert (job.result, len(job.attempts)) == ("left alone", 1)
    assert "deduplicated" not in "".join(lines(jobs._worker))


@pytest.mark.parametrize("point", ["before", "after"])
def test_a_worker_is_killed_there(jobs, point):
    """As in the body: nothing is acknowledged, and the message comes again."""
    jobs.crash(f"#{point}")
    job = jobs.run(charge, 7)
    assert [attempt.outcome for attempt in job.attempts] == ["killed", "succeeded"]


def test_the_body_still_fails_inside_autoretry(jobs):
    """A fault of the task strikes once an attempt, where `autoretry_for` sees it."""
    jobs.fail(charge, ConnectionError("down"), times=1)
    job = jobs.run(charge, 7)
    assert [attempt.outcome for attempt in job.attempts] == ["retried", "succeeded"]
    assert repr(job.attempts[0].error) == "ConnectionError('down')"
    assert done == ["before", "before", 7, "after"]


def test_the_request_is_that_of_the_delivery(jobs):
    """A worker protects it from `Task.__call__`, which has one of its own where test code calls the task."""
    assert jobs.run(ask, False).result == "True False 1, wrapped"
    assert jobs.run(ask, True).result == "True False 1, wrapped"
    assert ask(False) == "True True 1, wrapped"


def test_an_argument_has_any_name(jobs):
    """Also that of what stands in the task's place."""
    assert jobs.run(name, task="polish").result == "polish, wrapped"
    assert name(task="polish") == "polish, wrapped"
