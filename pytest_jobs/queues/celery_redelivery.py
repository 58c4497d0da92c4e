"""What a broker does by itself with messages that lie unacknowledged too long."""

from collections.abc import Callable
from datetime import datetime, timedelta
from math import ceil
from typing import Any, NamedTuple

from pytest_jobs.queues.base import Envelope
from pytest_jobs.queues.celery_servers import RedisServer, Server

__all__ = ["Redelivery"]
__tracebackhide__ = True

RESTORE_INTERVAL = 10.0  # seconds between kombu's looks at unacknowledged Redis messages (unacked_restore_interval)


class _Held(NamedTuple):
    since: datetime
    server: Server
    queue: str


class Redelivery:
    """Owns the books of unacknowledged messages: which a worker holds, since when."""

    def __init__(self, began: datetime, courier: Callable[[Server], Any]) -> None:
        self._began = began
        self._courier = courier
        self._held: dict[str, _Held] = {}
        self._looking = False
        self.restored: tuple[Envelope, ...] = ()

    def hold(self, tag: str, since: datetime, server: Server, queue: str) -> None:
        """A worker holds a message."""
        self._held[tag] = _Held(since, server, queue)

    def release(self, tag: str) -> None:
        """It holds it no more."""
        self._held.pop(tag, None)

    def put(self, envelope: Envelope) -> None:
        """A message went back into its queue; it was restored when brokers are being looked at."""
        if self._looking:
            self.restored += (envelope,)

    def clear(self) -> None:
        """Nothing is held."""
        self._held.clear()

    def next_due(self) -> datetime | None:
        """Return when the first of them has lain too long."""
        due = (self._ends(held) for held in self._held.values())
        return min((instant for instant in due if instant is not None), default=None)

    def run_due(self, now: datetime, close: Callable[[str], None]) -> bool:
        """Put back what has lain too long; where the broker closes a channel for it, let `close` do so, by a tag."""
        overdue = {tag: held for tag, held in self._held.items() if (self._ends(held) or now + timedelta(1)) <= now}
        self.restored, self._looking = (), True
        for server in dict.fromkeys(held.server for held in overdue.values()):
            if isinstance(server, RedisServer):
                self._courier(server).qos.restore_visible(num=len(self._held) + 10, interval=1)
        for tag, held in overdue.items():
            if not isinstance(held.server, RedisServer) and tag in self._held:
                close(tag)
        self._looking = False
        return bool(overdue)

    def _ends(self, held: _Held) -> datetime | None:
        if not isinstance(held.server, RedisServer):
            timeout = held.server.consumer_timeout(held.queue)
            return None if timeout is None else held.since + timedelta(seconds=timeout)
        channel = self._courier(held.server)
        options = channel.connection.client.transport_options
        interval = options.get("unacked_restore_interval", RESTORE_INTERVAL) * options.get("unacked_restore_throttle", 1)
        passed = (held.since - self._began).total_seconds() + channel.visibility_timeout
        return self._began + timedelta(seconds=ceil(passed / interval) * interval)
