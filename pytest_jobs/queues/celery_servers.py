"""The brokers of this process: queues in memory, and Redis servers over fakeredis."""

import heapq
from collections import deque
from collections.abc import Iterator
from itertools import count
from queue import Empty, SimpleQueue
from threading import get_ident
from typing import Any

import fakeredis
import redis
from kombu.transport import virtual
from redis import ConnectionPool

__all__ = ["Client", "MemoryServer", "RabbitServer", "RedisServer", "Server"]
__tracebackhide__ = True

# fakeredis renamed it, and warns about the old name.
FAKE: Any = getattr(fakeredis, "FakeRedisConnection", None) or fakeredis.FakeConnection


class Connection(FAKE):  # type: ignore[misc, unused-ignore]
    """A connection within this process, whose answers wait in a queue that is not written in Python."""

    def _connect(self) -> Any:
        socket = super()._connect()
        socket.responses = SimpleQueue()
        return socket


class Line:
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

    def remove(self, raw: str) -> bool:
        """Take a message out, wherever it lies; return whether it was there."""
        if raw in self.messages:
            self.messages.remove(raw)
            return True
        rest = [item for item in self.heap if item[2] != raw]
        found = len(rest) < len(self.heap)
        self.heap = rest
        heapq.heapify(self.heap)
        return found

    def __len__(self) -> int:
        return len(self.messages) + len(self.heap)

    def clear(self) -> None:
        self.messages.clear()
        self.heap.clear()

    def __iter__(self) -> Iterator[str]:
        return iter([*self.messages, *(raw for _, _, raw in self.heap)])


CONSUMER_TIMEOUT = 1800.0  # seconds a message may lie unacknowledged before RabbitMQ closes the channel


class MemoryServer:
    """One in-memory broker; it redelivers as AMQP does: at once, to the front, with the flag."""

    redis = False
    rabbitmq = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.arguments: dict[str, dict[str, Any]] = {}
        self.queues: dict[str, Line] = {}
        self.state = virtual.BrokerState()
        self.known: dict[str, set[str]] = {}

    def consumer_timeout(self, queue: str) -> float | None:
        """Return how many seconds a message of a queue may lie unacknowledged, None for ever."""
        return None


class RabbitServer(MemoryServer):
    """One in-memory broker with RabbitMQ's own rules: the consumer timeout, dead-letter exchanges."""

    rabbitmq = True

    def consumer_timeout(self, queue: str) -> float | None:
        given = self.arguments.get(queue, {}).get("x-consumer-timeout")
        return CONSUMER_TIMEOUT if given is None else given / 1000


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
        self._shared: dict[tuple[int, int], Client] = {}

    def pool(self, **parameters: Any) -> ConnectionPool:
        wanted = {key: parameters[key] for key in ("db", "decode_responses", "encoding") if key in parameters}
        return ConnectionPool(connection_class=Connection, server=self.fake, **wanted)

    def shared(self, db: int) -> Client:
        """Return the one client of the calling thread for a database: all channels that it uses share its connection."""
        key = db, get_ident()
        client = self._shared.get(key)
        if client is None:
            client = self._shared[key] = Client(connection_pool=self.pool(db=db))
        return client

    def client(self, db: int = 0) -> Any:
        return fakeredis.FakeRedis(server=self.fake, db=db)


Server = MemoryServer | RedisServer
