"""What apps name as broker and result backend: nobody needs a driver to test jobs, and kombu's own queues work."""

from queue import Empty

import pytest
from celery import Celery
from celery.app.backends import BACKEND_ALIASES
from kombu.transport import TRANSPORT_ALIASES

from pytest_jobs import UsageError, in_process_worker

# Their drivers are not among what our tests install; older versions know fewer of them.
DRIVERLESS = ("azureservicebus://k:v@ns", "librabbitmq://host//", "confluentkafka://host", "gcpubsub://projects/shop", "mongodb://host/shop")
WITHOUT = ("azureblockblob://shop", "couchbase://host/shop", "arangodb://host/shop/results", "gs://bucket/shop")
DRIVERLESS = tuple(url for url in DRIVERLESS if url.partition(":")[0] in TRANSPORT_ALIASES)
WITHOUT = tuple(url for url in WITHOUT if url.partition(":")[0] in BACKEND_ALIASES)


def adding(broker="memory://localhost/", backend="cache+memory://"):
    app = Celery("shop", broker=broker, backend=backend, set_as_current=False)

    @app.task(shared=False, name="add")
    def add(a, b):
        return a + b

    return app, add


def refused(app, add):
    """Run a job in a world that refuses it; return the world, what was wrong and what is allowed."""
    with in_process_worker(app) as jobs, pytest.raises(UsageError) as caught:
        jobs.run(add, 1, 2)
    said, allowed = str(caught.value).split("; allowed are ")
    return jobs, said, set(allowed.split(", "))


@pytest.mark.parametrize("url", DRIVERLESS)
def test_a_broker_needs_no_driver(url):
    """The broker is in this process anyway."""
    app, add = adding(broker=url)
    with in_process_worker(app) as jobs:
        assert jobs.run(add, 1, 2).result == 3


@pytest.mark.parametrize("url", WITHOUT)
def test_a_result_backend_needs_no_driver(url):
    """The results are in this process anyway."""
    app, add = adding(backend=url)
    with in_process_worker(app):
        assert add.delay(1, 2).get() == 3


def test_a_broker_that_kombu_does_not_know():
    """One sentence, and the next world is not disturbed."""
    app, add = adding(broker="rabbit://host")
    jobs, said, allowed = refused(app, add)
    assert said == "a broker URL begins with 'rabbit', which kombu does not know"
    assert {"amqp", "redis", "sqs"} <= allowed
    assert jobs.all == []
    other, add = adding()
    with in_process_worker() as jobs:  # takes over both
        assert jobs.run(add, 1, 2).result == 3
        other.send_task("nobody")
        jobs.settle()
        assert jobs.all[1].failed
    assert app.main == "shop"


def test_a_result_backend_that_celery_does_not_know():
    """One sentence."""
    _, said, allowed = refused(*adding(backend="rediz://host"))
    assert said == "the result backend 'rediz://host' is none that Celery knows"
    assert {"redis", "rpc", "db"} <= allowed


@pytest.mark.parametrize("url", ["memory://localhost/", "redis://localhost/0"])
def test_simple_queues(url):
    """`SimpleQueue` of kombu: what is put is got, and waiting for nothing ends after its timeout of virtual time."""
    app, add = adding(broker=url)
    with in_process_worker(app) as jobs, app.connection() as connection:
        queue = connection.SimpleQueue("letters")
        queue.put({"to": "ann"})
        assert jobs.run(add, 1, 2).result == 3
        assert queue.qsize() == 1
        message = queue.get(timeout=5)
        assert message.payload == {"to": "ann"}
        message.ack()
        assert jobs.clock.elapsed.total_seconds() == 0
        with pytest.raises(Empty):
            queue.get(timeout=5)
        assert jobs.clock.elapsed.total_seconds() == 5
        with pytest.raises(Empty):
            queue.get_nowait()
        with pytest.raises(UsageError, match=r"for an hour without a timeout, and nobody .*; pass one, as in SimpleQueue.get\(timeout=5\)$"):
            queue.get()
        queue.close()
