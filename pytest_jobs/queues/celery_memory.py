"""The channel of the in-memory brokers: kombu's virtual one, with RabbitMQ's rules where it stands for RabbitMQ."""

from datetime import UTC, datetime
from typing import Any

from kombu.transport.base import to_rabbitmq_queue_arguments
from kombu.utils.uuid import uuid

from pytest_jobs.queues.celery_channel import Hooked, dumps, loads, tag_of
from pytest_jobs.queues.celery_servers import Line, MemoryServer

__all__ = ["MemoryChannel"]
__tracebackhide__ = True


def dead_letter(message: Any, origin: str, exchange: str, key: str, reason: str) -> dict[str, Any]:
    """Return what RabbitMQ makes of a message that it hands to a dead-letter exchange."""
    delivery = message.delivery_info
    payload: dict[str, Any] = message.serializable()
    death = {
        "count": 1, "exchange": delivery["exchange"], "queue": origin, "reason": reason,
        "routing-keys": [delivery["routing_key"]], "time": datetime.now(UTC).isoformat(),
    }  # fmt: skip
    first = {f"x-first-death-{name}": death[name] for name in ("exchange", "queue", "reason")}
    before = payload["headers"].pop("x-death", None) or []
    payload["headers"] = {**first, **payload["headers"], "x-death": [death, *before]}
    info = {**delivery, "exchange": exchange, "routing_key": key}
    payload["properties"] = {**payload["properties"], "delivery_tag": uuid(), "delivery_info": info}
    return payload


class MemoryChannel(Hooked):
    """A channel of the in-memory broker."""

    server: MemoryServer
    do_restore = False
    supports_fanout = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lost: set[str] = set()

    def _line(self, queue: str) -> Line:
        line = self.server.queues.get(queue)
        if line is None:
            line = self.server.queues[queue] = Line(prioritised=False)
        return line

    def _has_queue(self, queue: str, **_: Any) -> bool:
        return queue in self.server.queues

    def prepare_queue_arguments(self, arguments: dict[str, Any], **kwargs: Any) -> Any:
        return to_rabbitmq_queue_arguments(arguments, **kwargs)

    def _new_queue(self, queue: str, arguments: dict[str, Any] | None = None, **_: Any) -> None:
        if queue not in self.server.queues:
            self.server.arguments[queue] = dict(arguments or {})
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
        if "x-delivery-limit" in self._origin(message)[1]:
            payload["headers"]["x-delivery-count"] = payload["headers"].get("x-delivery-count", 0) + 1
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
            self.hooks.on_settle(tag_of(loads(raw)), "dropped")
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
            self._requeue(tag, message)

    close_in_order = lose_connection

    def lose_messages(self) -> None:
        """Be closed by the broker: what was unacknowledged comes again under new tags, and can be acknowledged no more."""
        self.qos._flush()
        unacked = list(self.qos._delivered.items())
        self.qos._delivered.clear()
        for tag, message in reversed(unacked):
            self.lost.add(tag)
            message.properties["delivery_tag"] = uuid()
            self._requeue(tag, message)

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        self._refuse_lost(delivery_tag)
        super().basic_ack(delivery_tag, multiple)

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        self._refuse_lost(delivery_tag)
        message = self.qos._delivered.get(delivery_tag)
        if message is not None and requeue:
            self.hooks.on_broker("ack")
            self._requeue(delivery_tag, message)
            self.qos.ack(delivery_tag)
            return
        self.rejected = "rejected" if message is None else self._bury(message, "rejected")
        super().basic_reject(delivery_tag, requeue)

    def _requeue(self, tag: str, message: Any) -> None:
        """Let a message come again, unless it came as often as its queue allows."""
        limit = self._origin(message)[1].get("x-delivery-limit")
        if limit is None or message.headers.get("x-delivery-count", 0) < limit:
            self.hooks.on_settle(tag, "requeued")
            self._restore(message)
        else:
            self.hooks.on_settle(tag, f"at its delivery limit {self._bury(message, 'delivery_limit')}")
            self.hooks.on_dead(message.headers.get("id"))

    def _bury(self, message: Any, reason: str) -> str:
        """Reject a message for good: its queue may name a dead-letter exchange. Return what happened, in words."""
        origin, arguments = self._origin(message)
        exchange = arguments.get("x-dead-letter-exchange")
        if exchange is None:
            return "rejected"
        key = arguments.get("x-dead-letter-routing-key", message.delivery_info["routing_key"])
        queues = self._lookup_bound(exchange, key)
        for queue in queues:
            payload = dead_letter(message, origin, exchange, key, reason)
            if self.hooks.consumes(self.server, queue):
                self._put(queue, payload)
            else:
                self._line(queue).put(dumps(payload), payload["properties"].get("priority") or 0, front=False)
        return ", dead-lettered to ".join(["rejected", *queues])

    def _origin(self, message: Any) -> tuple[str, dict[str, Any]]:
        """Return the queue a message came from, and the arguments it was declared with that RabbitMQ heeds."""
        delivery = message.delivery_info
        origin = (self._lookup_bound(delivery["exchange"], delivery["routing_key"]) or [""])[0]
        return origin, self.server.arguments.get(origin, {}) if self.server.rabbitmq else {}

    def _lookup_bound(self, exchange: str, routing_key: str) -> list[str]:
        """Find the queues of an exchange; none when it has none, or is none."""
        if not exchange:
            return [routing_key] if routing_key in self.server.queues else []
        if exchange not in self.state.exchanges:
            return []
        found = self.typeof(exchange).lookup(self.get_table(exchange), exchange, routing_key, None)
        return [queue for queue in found if queue is not None]

    def _refuse_lost(self, delivery_tag: str) -> None:
        if delivery_tag in self.lost:
            raise ConnectionError("PRECONDITION_FAILED - delivery acknowledgement timed out; the channel was closed")

    def remove(self, queue: str, raw: str) -> bool:
        """Take a message out of a queue; return whether it was there."""
        return self._line(queue).remove(raw)
