"""What every channel of this process tells the adapter."""

from json import JSONDecoder
from typing import Any, Protocol

from kombu.transport import virtual
from kombu.utils.json import JSONEncoder, object_hook

from pytest_jobs.queues.celery_servers import Server

__all__ = ["Hooked", "Hooks", "dumps", "loads", "tag_of"]
__tracebackhide__ = True

# As kombu writes and reads messages, less a new encoder and decoder for each.
dumps = JSONEncoder().encode
loads = JSONDecoder(object_hook=object_hook).decode


class Hooks(Protocol):
    """What the adapter wants to know of a broker."""

    def on_publish(self, server: Server, queue: str, message: dict[str, Any], raw: str) -> None: ...
    def on_put(self, server: Server, queue: str, message: dict[str, Any], raw: str) -> None: ...
    def on_settle(self, tag: str, how: str) -> None: ...
    def on_broker(self, operation: str) -> None: ...
    def on_dead(self, job_id: str | None) -> None: ...
    def consumes(self, server: Server, queue: str) -> bool: ...


def tag_of(message: dict[str, Any]) -> str:
    """Return the delivery tag of a message."""
    return str(message["properties"]["delivery_tag"])


class Hooked(virtual.Channel):
    """A channel that tells what moves through it."""

    hooks: Hooks
    server: Server
    rejected = "rejected"
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
        self.hooks.on_settle(delivery_tag, "requeued" if requeue else self.rejected)
        super().basic_reject(delivery_tag, requeue)
