"""In-process brokers beneath kombu: its Redis transport over fakeredis, its memory transport with the gaps closed."""

import heapq
from collections import deque
from collections.abc import Collection, Iterator
from itertools import count
from queue import Empty
from typing import Any, Protocol

import fakeredis
import redis
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads
from redis import ConnectionPool

__all__ = ["Client", "Hooks", "MemoryServer", "RedisServer", "Server", "transport_class"]
__tracebackhide__ = True

# fakeredis renamed it, and warns about the old name.
CONNECTION = getattr(fakeredis, "FakeRedisConnection", None) or fakeredis.FakeConnection

class Hooks(Protocol):
    """What the adapter wants to know of a broker."""

    def on_publish(self, server: "Server", queue: str, message: dict[str, Any], raw: str) -> None: ...
    def on_put(self, server: "Server", queue: str, message: dict[str, Any], raw: str) -> None: ...
    def on_settle(self, tag: str, how: str) -> None: ...
    def on_broker(self, operation: str) -> None: ...


class _Line:
    """One memory queue: first in, first out; by priority when it was declared with `x-max-priority`."""

    def __init__(self, prioritised: bool) -> None:
        self.prioritised = prioritised
        self.messages: deque[str] = deque()
        self.heap: list[tuple[int, int, str]] = []
        self.serial = count()
        self.front = count(-1, -1)

    def put(self, raw: str, priority: int, *, front: bool) -> None:
        if self.prioritised:
            heapq.heappush(self.heap, (-priority, next(self.front if front else self.serial), raw))
        elif front:
            self.messages.appendleft(raw)
        else:
            self.messages.append(raw)

    def get(self) -> str:
        if self.heap:
            return heapq.heappop(self.heap)[2]
        if not self.messages:
            raise Empty
        return self.messages.popleft()

    def __len__(self) -> int:
        return len(self.messages) + len(self.heap)

    def clear(self) -> None:
        self.messages.clear()
        self.heap.clear()

    def __iter__(self) -> Iterator[str]:
        return iter([*self.messages, *(raw for _, _, raw in self.heap)])


class MemoryServer:
    """One in-memory broker; it redelivers as AMQP does: at once, to the front, with the flag."""

    redis = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.queues: dict[str, _Line] = {}
        self.state = virtual.BrokerState()
        self.known: dict[str, set[str]] = {}


class _Setex:
    """SETEX, which Celery calls and redis-py 8 warns about: an error under `-W error`."""

    def setex(self, name: Any, time: Any, value: Any) -> Any:
        return self.set(name, value, ex=time)  # type: ignore[attr-defined]


class _Pipeline(_Setex, redis.client.Pipeline):
    """A pipeline of the in-process client."""


class Client(_Setex, redis.Redis):
    """A Redis client of this process: one connection, and no MULTI where one thread needs none."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "single_connection_client": True})

    def pipeline(self, transaction: bool = False, shard_hint: Any = None) -> Any:
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class RedisServer:
    """One in-process Redis server, shared by brokers, result backends and tests of one URL."""

    redis = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.fake = fakeredis.FakeServer()
        self.known: dict[str, set[str]] = {}

    def pool(self, **parameters: Any) -> ConnectionPool:
        wanted = {key: parameters[key] for key in ("db", "decode_responses", "encoding") if key in parameters}
        return ConnectionPool(connection_class=CONNECTION, server=self.fake, **wanted)

    def client(self, db: int = 0) -> Any:
        return fakeredis.FakeRedis(server=self.fake, db=db)


Server = MemoryServer | RedisServer


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

    def _line(self, queue: str) -> _Line:
        line = self.server.queues.get(queue)
        if line is None:
            line = self.server.queues[queue] = _Line(prioritised=False)
        return line

    def _has_queue(self, queue: str, **_: Any) -> bool:
        return queue in self.server.queues

    def _new_queue(self, queue: str, arguments: dict[str, Any] | None = None, **_: Any) -> None:
        if queue not in self.server.queues:
            self.server.queues[queue] = _Line(bool(arguments and arguments.get("x-max-priority")))

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
