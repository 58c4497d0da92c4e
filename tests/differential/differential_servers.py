"""Redis and RabbitMQ on this machine: a database and a virtual host of our own, given back empty."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

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
    name = f"pytest-jobs-{os.getpid()}-{time.monotonic_ns()}"
    with _virtual_host(name) as host:
        url = f"{RABBITMQ}/{host}"

        def left(queues):
            with Connection(url) as connection:
                return {queue: _ready(connection, queue) for queue in queues}

        yield {"broker": url, "backend": f"file://{directory}", "left": left}


@contextlib.contextmanager
def rabbitmq_node(directory, consumer_timeout) -> Iterator[dict]:
    """Start a RabbitMQ of our own, whose consumers must acknowledge within so many seconds; results go to files."""
    server = shutil.which("rabbitmq-server")
    if server is None:
        raise Unavailable("rabbitmq-server is not installed here")
    port, distribution = _free_port(), _free_port()
    # Not below pytest's own directory: the server's user must come in, and every other pytest shuts that again.
    home = tempfile.mkdtemp(prefix="pytest-jobs-")
    Path(home).chmod(0o777)
    settings = f"[{{consumer_timeout,{consumer_timeout * 1000}}},{{channel_tick_interval,1000}},{{tcp_listeners,[{port}]}}]"
    Path(home, "advanced.config").write_text(f"[{{rabbit,{settings}}}].")
    Path(home, "rabbitmq.conf").touch()
    Path(home, "plugins").write_text("[].")
    name = f"pytest-jobs-{os.getpid()}@localhost"
    environment = {
        **os.environ, "HOME": os.environ.get("HOME", "/root"), "RABBITMQ_NODENAME": name, "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_ADVANCED_CONFIG_FILE": f"{home}/advanced.config", "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq",
        "RABBITMQ_MNESIA_BASE": f"{home}/mnesia", "RABBITMQ_LOG_BASE": f"{home}/log",
        "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/plugins",
    }  # fmt: skip
    process = subprocess.Popen(
        [server], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    url = f"amqp://guest:guest@127.0.0.1:{port}//"
    try:
        _wait_for(url, process)

        def left(queues):
            with Connection(url) as connection:
                return {queue: _ready(connection, queue) for queue in queues}

        yield {"broker": url, "backend": f"file://{directory}", "left": left}
    finally:
        _ctl("-n", name, "stop")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(home, ignore_errors=True)


def _free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _wait_for(url, process):
    end = time.monotonic() + 40
    while time.monotonic() < end and process.poll() is None:
        try:
            with Connection(url, connect_timeout=1) as connection:
                connection.ensure_connection(max_retries=1, timeout=1)
            return
        except Exception:  # noqa: BLE001 - it is not up yet
            time.sleep(0.3)
    raise Unavailable("a RabbitMQ of our own does not start here")


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
