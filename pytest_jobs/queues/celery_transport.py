"""In-process brokers beneath kombu: its Redis transport over fakeredis, its memory transport with the gaps closed."""

import time
from collections.abc import Collection
from contextlib import suppress
from queue import Empty
from typing import Any

import redis
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from kombu.utils.encoding import bytes_to_str
from redis import ConnectionPool

from pytest_jobs.errors import UsageError
from pytest_jobs.queues.celery_channel import Hooked, Hooks, dumps, loads, tag_of
from pytest_jobs.queues.celery_memory import MemoryChannel
from pytest_jobs.queues.celery_servers import Client, MemoryServer, RedisServer, Server

__all__ = ["transport_class"]
__tracebackhide__ = True

POLLED = 1.0  # seconds of virtual time
FOR_EVER = 3600.0
NOBODY = (
    "a queue was waited on for an hour without a timeout, and nobody in this process can fill it any more; "
    "pass one, as in SimpleQueue.get(timeout=5)"
)


class RedisChannel(Hooked, kombu_redis.Channel):
    """A channel of kombu's Redis transport on an in-process server."""

    server: RedisServer
    keyprefix_fanout: str
    _one: Any = None
    _db: int | None = None

    def _get_pool(self, asynchronous: bool = False) -> ConnectionPool:
        parameters = self._connparams(asynchronous=asynchronous)
        self.keyprefix_fanout = self.keyprefix_fanout.format(db=parameters["db"])
        return self.server.pool(**parameters)

    def _get_client(self) -> Any:
        found = super()._get_client()
        return Client if found is redis.Redis else found

    def _create_client(self, asynchronous: bool = False) -> Any:
        if self.Client is Client:
            if self._db is None:  # known for good: a channel that was closed publishes, too
                self._db = int(self.pool.connection_kwargs.get("db") or 0)
            return self.server.shared(self._db)
        if self._one is None:
            self._one = self.Client(connection_pool=self.pool)
        return self._one

    def _close_clients(self) -> None:
        if self.Client is Client:
            self.__dict__.pop("client", None)  # others use its connection, too
        super()._close_clients()

    def _size(self, queue: str) -> int:
        client = self._create_client()
        return sum(client.llen(key) for key in self.server.known.get(queue, ()))

    def _key(self, queue: str, message: dict[str, Any]) -> str:
        key: str = self._q_for_pri(queue, self._get_message_priority(message, reverse=False))
        self.server.known.setdefault(queue, set()).add(key)
        return key

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        key, raw = self._key(queue, message), dumps(message)
        if getattr(self, "_expires", None) or kwargs:
            super()._put(queue, message, **kwargs)
        else:
            self._create_client().lpush(key, raw)
        self._came(queue, message, raw)

    def put_front(self, queue: str, message: dict[str, Any]) -> None:
        raw = dumps(message)
        self._create_client().rpush(self._key(queue, message), raw)
        self._came(queue, message, raw)

    def take(self, queue: str) -> str:
        keys: Collection[str] = self.server.known.get(queue, ())
        if len(keys) > 1:
            keys = sorted(keys, key=[self._q_for_pri(queue, step) for step in self.priority_steps].index)
        for key in keys:
            raw = self._create_client().rpop(key)
            if raw:
                return str(bytes_to_str(raw))
        raise Empty

    def _do_restore_message(
        self, payload: dict[str, Any], exchange: str, routing_key: str, pipe: Any, leftmost: bool = False
    ) -> None:
        super()._do_restore_message(payload, exchange, routing_key, pipe, leftmost)
        if not leftmost:
            self.hooks.on_settle(tag_of(payload), "requeued")
        for queue in self._lookup(exchange, routing_key):
            self._key(queue, payload)
            self._came(queue, payload, dumps(payload))

    def _purge(self, queue: str) -> int:
        client = self._create_client()
        for key in self.server.known.get(queue, ()):
            for raw in client.lrange(key, 0, -1):
                self.hooks.on_settle(tag_of(loads(bytes_to_str(raw))), "dropped")
        return int(super()._purge(queue))

    def remove(self, queue: str, raw: str) -> bool:
        """Take a message out of a queue; return whether it was there."""
        keys = self.server.known.get(queue, ())
        return any(self._create_client().lrem(key, 1, raw) for key in keys)

    def lose_connection(self) -> None:
        """Die as a process dies: nothing is restored before the visibility timeout."""
        self.qos._on_collect.cancel()
        self.qos._delivered.clear()

    def close_in_order(self) -> None:
        """Close as kombu does: what was unacknowledged goes back to the front of its queue."""
        self.qos._on_collect.cancel()
        self.qos.restore_unacked()


class _MemoryTransport(virtual.Transport):
    driver_type = "memory"
    driver_name = "memory"
    connection_errors = (*virtual.Transport.connection_errors, OSError)  # as pyamqp's
    implements = virtual.Transport.implements.extend(exchange_type=frozenset(["direct", "topic", "fanout"]))
    server: MemoryServer

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.state = self.server.state

    def driver_version(self) -> str:
        return "N/A"

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        """Hand out the next message, as kombu does; do not wait for ever."""
        try:
            super().drain_events(connection, timeout=FOR_EVER if timeout is None else timeout)
        except TimeoutError as error:
            if timeout is None:
                raise UsageError(NOBODY) from error
            raise


class _RedisTransport(kombu_redis.Transport):
    server: RedisServer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Nothing here is ever polled for; its descriptor would stay open.
        self.cycle.poller.close()

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        """Hand out the next message that anybody consumes (`SimpleQueue.get`); waiting for one moves virtual time."""
        began = time.monotonic()
        while not any(self._drained(channel) for channel in self.channels):
            waited = time.monotonic() - began
            if timeout is not None and waited >= timeout:
                raise TimeoutError
            if waited >= FOR_EVER:
                raise UsageError(NOBODY)
            time.sleep(POLLED if timeout is None else min(POLLED, timeout - waited))

    def _drained(self, channel: Any) -> bool:
        with suppress(Empty):
            channel.drain_events(callback=self._deliver)
            return True
        return False


def transport_class(server: Server, hooks: Hooks) -> type[Any]:
    """Make the kombu transport class whose every connection reaches `server` and nothing else."""
    members = {"server": server, "hooks": hooks, "__doc__": f"Reaches {server.name} in this process."}
    if isinstance(server, RedisServer):
        channel = type("Channel", (RedisChannel,), members)
        return type("Transport", (_RedisTransport,), {"Channel": channel, "server": server})
    channel = type("Channel", (MemoryChannel,), members)
    return type("Transport", (_MemoryTransport,), {"Channel": channel, "server": server})
