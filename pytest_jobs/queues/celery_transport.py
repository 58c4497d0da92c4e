"""In-process brokers beneath kombu: its Redis transport over fakeredis, its memory transport with the gaps closed."""

from collections.abc import Collection
from queue import Empty
from typing import Any, Protocol

import redis
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads
from redis import ConnectionPool

from pytest_jobs.queues.celery_servers import Client, Line, MemoryServer, RedisServer, Server

__all__ = ["Hooks", "transport_class"]
__tracebackhide__ = True


class Hooks(Protocol):
    """What the adapter wants to know of a broker."""

    def on_publish(self, server: Server, queue: str, message: dict[str, Any], raw: str) -> None: ...
    def on_put(self, server: Server, queue: str, message: dict[str, Any], raw: str) -> None: ...
    def on_settle(self, tag: str, how: str) -> None: ...
    def on_broker(self, operation: str) -> None: ...


def _tag(message: dict[str, Any]) -> str:
    return str(message["properties"]["delivery_tag"])


class _Hooked(virtual.Channel):
    """A channel that tells what moves through it."""

    hooks: Hooks
    server: Server
    _publishing = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.hooks.on_broker("connect")
        super().__init__(*args, **kwargs)

    def basic_publish(self, message: dict[str, Any], exchange: str, routing_key: str, **kwargs: Any) -> Any:
        self.hooks.on_broker("publish")
        self._publishing = True
        try:
            return super().basic_publish(message, exchange, routing_key, **kwargs)
        finally:
            self._publishing = False

    def _came(self, queue: str, message: dict[str, Any], raw: str) -> None:
        if queue not in self.server.known:
            self.server.known[queue] = set()
        if self._publishing:
            self.hooks.on_publish(self.server, queue, message, raw)
        else:
            self.hooks.on_put(self.server, queue, message, raw)

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        self.hooks.on_broker("ack")
        super().basic_ack(delivery_tag, multiple)
        self.hooks.on_settle(delivery_tag, "acked")

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        self.hooks.on_broker("ack")
        self.hooks.on_settle(delivery_tag, "requeued" if requeue else "rejected")
        super().basic_reject(delivery_tag, requeue)


class MemoryChannel(_Hooked):
    """A channel of the in-memory broker."""

    server: MemoryServer
    do_restore = False
    supports_fanout = True

    def _line(self, queue: str) -> Line:
        line = self.server.queues.get(queue)
        if line is None:
            line = self.server.queues[queue] = Line(prioritised=False)
        return line

    def _has_queue(self, queue: str, **_: Any) -> bool:
        return queue in self.server.queues

    def _new_queue(self, queue: str, arguments: dict[str, Any] | None = None, **_: Any) -> None:
        if queue not in self.server.queues:
            self.server.queues[queue] = Line(bool(arguments and arguments.get("x-max-priority")))

    def take(self, queue: str) -> str:
        return self._line(queue).get()

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        message: dict[str, Any] = loads(self.take(queue))
        return message

    def _put(self, queue: str, message: dict[str, Any], front: bool = False, **_: Any) -> None:
        raw = dumps(message)
        self._line(queue).put(raw, message["properties"].get("priority") or 0, front=front)
        self._came(queue, message, raw)

    def _put_fanout(self, exchange: str, message: dict[str, Any], routing_key: str | None = None, **_: Any) -> None:
        for queue in self._lookup(exchange, routing_key):
            self._line(queue).put(dumps(message), 0, front=False)

    def _queue_bind(self, *_: Any) -> None:
        """Bindings live in the server's state."""

    def _restore(self, message: Any) -> None:
        payload = message.serializable()
        payload["headers"]["redelivered"] = True
        payload["properties"]["delivery_info"]["redelivered"] = True
        delivery = message.delivery_info
        for queue in self._lookup(delivery["exchange"], delivery["routing_key"]):
            self._put(queue, payload, front=True)

    def put_front(self, queue: str, message: dict[str, Any]) -> None:
        self._put(queue, message, front=True)

    def _size(self, queue: str) -> int:
        return len(self._line(queue))

    def _delete(self, queue: str, *_: Any, **__: Any) -> None:
        self.server.queues.pop(queue, None)

    def _purge(self, queue: str) -> int:
        line = self._line(queue)
        for raw in line:
            self.hooks.on_settle(_tag(loads(raw)), "dropped")
        size = len(line)
        line.clear()
        return size

    def lose_connection(self) -> None:
        """Die as a process dies: the broker sees the connection go and requeues what was unacknowledged."""
        self.qos._on_collect.cancel()
        self.qos._flush()
        unacked = list(self.qos._delivered.items())
        self.qos._delivered.clear()
        for tag, message in reversed(unacked):
            self.hooks.on_settle(tag, "requeued")
            self._restore(message)

    close_in_order = lose_connection


class RedisChannel(_Hooked, kombu_redis.Channel):
    """A channel of kombu's Redis transport on an in-process server."""

    server: RedisServer
    keyprefix_fanout: str
    _one: Any = None

    def _get_pool(self, asynchronous: bool = False) -> ConnectionPool:
        parameters = self._connparams(asynchronous=asynchronous)
        self.keyprefix_fanout = self.keyprefix_fanout.format(db=parameters["db"])
        return self.server.pool(**parameters)

    def _get_client(self) -> Any:
        found = super()._get_client()
        return Client if found is redis.Redis else found

    def _create_client(self, asynchronous: bool = False) -> Any:
        if self._one is None:
            self._one = self.Client(connection_pool=self.pool)
        return self._one

    def _key(self, queue: str, message: dict[str, Any]) -> str:
        key: str = self._q_for_pri(queue, self._get_message_priority(message, reverse=False))
        self.server.known.setdefault(queue, set()).add(key)
        return key

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        key, raw = self._key(queue, message), dumps(message)
        if self._expires or kwargs:
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
            self.hooks.on_settle(_tag(payload), "requeued")
        for queue in self._lookup(exchange, routing_key):
            self._key(queue, payload)
            self._came(queue, payload, dumps(payload))

    def _purge(self, queue: str) -> int:
        client = self._create_client()
        for key in self.server.known.get(queue, ()):
            for raw in client.lrange(key, 0, -1):
                self.hooks.on_settle(_tag(loads(bytes_to_str(raw))), "dropped")
        return int(super()._purge(queue))

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


class _RedisTransport(kombu_redis.Transport):
    server: RedisServer


def transport_class(server: Server, hooks: Hooks) -> type[Any]:
    """Make the kombu transport class whose every connection reaches `server` and nothing else."""
    members = {"server": server, "hooks": hooks, "__doc__": f"Reaches {server.name} in this process."}
    if isinstance(server, RedisServer):
        channel = type("Channel", (RedisChannel,), members)
        return type("Transport", (_RedisTransport,), {"Channel": channel, "server": server})
    channel = type("Channel", (MemoryChannel,), members)
    return type("Transport", (_MemoryTransport,), {"Channel": channel, "server": server})
