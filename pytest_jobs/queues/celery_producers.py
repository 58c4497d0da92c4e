"""One producer an app, kept while the world lasts: a pool's coming and going would cost more than the message."""

from threading import get_ident
from typing import Any

__all__ = ["Producers"]
__tracebackhide__ = True


class Producers:
    """Owns the producers through which the test's own thread publishes; other threads take theirs from the app's pool."""

    def __init__(self) -> None:
        self._thread = get_ident()
        self._kept: dict[int, tuple[Any, Any]] = {}

    def given(self, app: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Add a producer to the arguments of `send_task` that name neither one nor a connection."""
        if get_ident() != self._thread or len(args) > 5 or kwargs.get("producer") or kwargs.get("connection"):
            return
        pool = app.amqp.producer_pool
        known, producer = self._kept.get(id(app), (None, None))
        if known is not pool:
            producer = pool.acquire(block=True)
            producer.maybe_declare = _Declaring(producer)
            self._kept[id(app)] = (pool, producer)
        kwargs["producer"] = producer

    def forget(self) -> None:
        """Leave them to the pools that made them, which are closed with the world."""
        self._kept.clear()


class _Declaring:
    """Declares each queue and exchange once a channel: kombu remembers that too, but copies it first."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self._declared: dict[int, tuple[Any, Any]] = {}

    def __call__(self, entity: Any, retry: bool = False, **policy: Any) -> Any:
        channel = self._producer.channel
        known, on = self._declared.get(id(entity), (None, None))
        if known is entity and on is channel:
            return False
        declared = type(self._producer).maybe_declare(self._producer, entity, retry, **policy)
        if entity:
            self._declared[id(entity)] = (entity, channel)
        return declared
