"""A real Redis server reads a clock of its own: what expires there follows the virtual one."""

import socket

import pytest
import redis
from celery import Celery

from pytest_jobs import in_process_worker
from pytest_jobs.timeline import lines

app = Celery("shop", broker="redis://localhost:6399/0", set_as_current=False)
URL = "redis://127.0.0.1:6379/14"
NAMES = ("jobs_lock:7", "jobs_cart:7", "jobs_others:7", "jobs_done:7")


@app.task(bind=True, shared=False, acks_late=True, max_retries=3)
def build(self, account):
    with redis.Redis.from_url(URL) as client:
        if not client.set(f"jobs_lock:{account}", self.request.id, nx=True, ex=60):
            raise self.retry(countdown=120)
        client.set(f"jobs_done:{account}", "yes")  # jobs: built
        client.delete(f"jobs_lock:{account}")


@pytest.fixture
def client():
    with redis.Redis.from_url(URL) as client:
        try:
            client.delete(*NAMES)
        except redis.ConnectionError as error:
            pytest.skip(f"no Redis server: {error}")
        yield client
        client.delete(*NAMES)


@pytest.fixture
def jobs():
    with in_process_worker(app) as jobs:
        yield jobs


def tell(command):
    """Speak to the server as another process would."""
    with socket.create_connection(("127.0.0.1", 6379)) as wire:
        wire.sendall(f"SELECT 14\r\n{command}\r\n".encode())
        wire.recv(64)


def test_a_killed_workers_lock_expires(client, jobs):
    """The redelivered job, an hour later, finds it gone."""
    jobs.crash("#built")
    job = jobs.run(build, 7)
    assert [attempt.outcome for attempt in job.attempts] == ["killed", "succeeded"]
    assert client.get("jobs_done:7") == b"yes"


def test_a_lock_of_the_tests_own_expires(client, jobs):
    """A job that waits for it gets it, no sooner."""
    client.set("jobs_lock:7", "another", ex=130)
    job = jobs.run(build, 7)
    assert [attempt.outcome for attempt in job.attempts] == ["retried", "retried", "succeeded"]


def test_what_does_not_expire_or_is_anothers_stays(client, jobs):
    """A database may be shared with whatever else runs on the machine."""
    client.set("jobs_cart:7", "pen")
    tell("SET jobs_others:7 pen EX 60")
    jobs.advance(3600)
    assert client.mget("jobs_cart:7", "jobs_others:7") == [b"pen", b"pen"]


def test_less_is_left_before_it_expires(client, jobs):
    """By as much as passed."""
    client.set("jobs_cart:7", "pen", ex=100)
    jobs.advance(40)
    assert 55 < client.ttl("jobs_cart:7") <= 60


def test_a_lost_connection_is_told_by_its_class(jobs):
    """The repr of redis-py 8 has neither the class in front nor what happened."""
    jobs.fail("redis.Redis.set", redis.ConnectionError("closed"))
    jobs.run(build, 7)
    assert [line for line in lines(jobs._worker) if "ConnectionError('closed')" in line]
    assert "ConnectionError('closed')" in repr(jobs.all.one.attempts[0])
