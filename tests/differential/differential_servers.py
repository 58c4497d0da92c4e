"""Redis and RabbitMQ on this machine: a database and a virtual host of our own, given back empty."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator

import redis
from kombu import Connection
from kombu.utils.json import loads

REDIS = ("127.0.0.1", 6379)
RABBITMQ = "amqp://guest:guest@127.0.0.1:5672"
CLAIM = "pytest-jobs-claim"


class Unavailable(Exception):
    """No server answers, or none can be used."""


@contextlib.contextmanager
def redis_urls() -> Iterator[dict]:
    """Claim an empty Redis database, for broker and results."""
    with _claimed() as (url, client):

        def left(queues):
            held = [loads(value)[2] for value in client.hvals("unacked")]
            return {queue: client.llen(queue) + held.count(queue) for queue in queues}

        yield {"broker": url, "backend": url, "left": left}


@contextlib.contextmanager
def rabbitmq_urls(directory) -> Iterator[dict]:
    """Make a virtual host on RabbitMQ; results go to files."""
    name = f"pytest-jobs-{os.getpid()}"
    with _virtual_host(name) as host:
        url = f"{RABBITMQ}/{host}"

        def left(queues):
            with Connection(url) as connection:
                return {queue: _ready(connection, queue) for queue in queues}

        yield {"broker": url, "backend": f"file://{directory}", "left": left}


def _ready(connection, queue):
    channel = connection.channel()
    try:
        return channel.queue_declare(queue=queue, passive=True).message_count
    finally:
        channel.close()


@contextlib.contextmanager
def _claimed():
    for number in range(15, 0, -1):
        client = redis.Redis(*REDIS, db=number, socket_connect_timeout=1)
        try:
            claimed = client.set(CLAIM, os.getpid(), nx=True, ex=600)
            alone = claimed and client.dbsize() == 1
        except redis.ConnectionError as error:
            raise Unavailable(f"no Redis answers on {REDIS[0]}:{REDIS[1]}") from error
        except redis.ResponseError as error:
            raise Unavailable(f"Redis on {REDIS[0]}:{REDIS[1]} has no database {number}") from error
        if alone:
            try:
                yield f"redis://{REDIS[0]}:{REDIS[1]}/{number}", client
            finally:
                client.flushdb()
                client.close()
            return
        if claimed:
            client.delete(CLAIM)
        client.close()
    raise Unavailable(f"Redis on {REDIS[0]}:{REDIS[1]} has no empty database")


@contextlib.contextmanager
def _virtual_host(name):
    try:
        with Connection(f"{RABBITMQ}//", connect_timeout=1) as connection:
            connection.ensure_connection(max_retries=1, timeout=2)
    except Exception as error:
        raise Unavailable(f"no RabbitMQ answers on {RABBITMQ.partition('@')[2]} as guest") from error
    if shutil.which("rabbitmqctl") is None or _ctl("add_vhost", name) != 0:
        raise Unavailable("rabbitmqctl cannot make a virtual host here")
    try:
        _ctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
        yield name
    finally:
        _ctl("delete_vhost", name)


def _ctl(*command):
    done = subprocess.run(["rabbitmqctl", "-q", *command], capture_output=True, timeout=30, check=False)
    return done.returncode
