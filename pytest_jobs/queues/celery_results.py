"""Result backends in this process; waiting for a result runs the worker."""

from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any

from celery import states
from celery.backends.base import Backend, DisabledBackend, KeyValueStoreBackend
from celery.backends.redis import RedisBackend
from celery.exceptions import TimeoutError  # noqa: A004 - Celery's own name

from pytest_jobs.queues.base import Host
from pytest_jobs.queues.celery_servers import Client, RedisServer
from pytest_jobs.queues.celery_urls import backend_named

__all__ = ["Waiter", "backend_for"]
__tracebackhide__ = True

ENDS = MappingProxyType({"succeeded": states.SUCCESS, "failed": states.FAILURE, "retrying": states.RETRY, "revoked": states.REVOKED})
COUNTERS = ("cache", "memcache", "memcached", "pylibmc", "memory", "couchbase", "arangodb", "elasticsearch")


class Waiter:
    """How results reach the worker: `host` runs it, `now` reads the clock, `outage` fails while the results are out of reach."""

    def __init__(self, host: Host, now: Callable[[], float], outage: Callable[[str], None]) -> None:
        self.host = host
        self.now = now
        self.outage = outage


class _RunsTheWorker:
    """Waiting as a result backend does it, but by running the worker instead of blocking."""

    waiter: Waiter
    thread_safe = True

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Subscribe to nothing: nobody pushes results here."""

    def add_pending_result(self, result: Any, **_: Any) -> Any:
        return result

    def remove_pending_result(self, result: Any) -> Any:
        return result

    def get_task_meta(self, task_id: str, cache: bool = True) -> Any:
        self.waiter.host.glance()
        return super().get_task_meta(task_id, cache=cache)  # type: ignore[misc]

    def _store_result(self, task_id: str, *args: Any, **kwargs: Any) -> Any:
        # Inside the loop of `result_backend_always_retry`.
        self.waiter.outage("store")
        return super()._store_result(task_id, *args, **kwargs)  # type: ignore[misc]

    def _wait(self, result: Any, timeout: float | None) -> Any:
        def ready() -> bool:
            return self._get_task_meta_for(result.id)["status"] in states.READY_STATES  # type: ignore[attr-defined]

        self.waiter.host.wait(ready, timeout, result.id)
        if not ready():
            raise TimeoutError("The operation timed out.")
        return super().get_task_meta(result.id, cache=False)  # type: ignore[misc]

    def wait_for_pending(
        self, result: Any, timeout: float | None = None, interval: float = 0.5, no_ack: bool = True,
        on_message: Any = None, on_interval: Any = None, callback: Any = None, propagate: bool = True, **_: Any,
    ) -> Any:
        meta = self._wait(result, timeout)
        result._maybe_set_cache(meta)
        if on_message is not None:
            on_message(meta)
        return result.maybe_throw(propagate=propagate, callback=callback)

    def iter_native(
        self, result: Any, timeout: float | None = None, interval: float = 0.5, no_ack: bool = True,
        on_message: Any = None, on_interval: Any = None, **_: Any,
    ) -> Iterator[tuple[str, Any]]:
        for node in result.results or ():
            if hasattr(node, "_cache"):
                meta = self._wait(node, timeout)
                node._maybe_set_cache(meta)
                if on_message is not None:
                    on_message(meta)
                yield node.id, meta
            else:
                for _child in self.iter_native(node, timeout, on_message=on_message):
                    pass
                yield node.id, node.children


class MemoryBackend(_RunsTheWorker, KeyValueStoreBackend):
    """Results in a dictionary, expired by the virtual clock; stands for every backend but Redis."""

    supports_native_join = True
    persistent = True
    data: dict[str, tuple[Any, float | None]]
    retries: bool

    def exception_safe_to_retry(self, exc: BaseException) -> bool:
        return self.retries and isinstance(exc, ConnectionError)

    def _alive(self, key: Any) -> Any:
        value, expires = self.data.get(self._text(key), (None, None))
        return None if expires is not None and expires <= self.waiter.now() else value

    @staticmethod
    def _text(key: Any) -> str:
        return key.decode() if isinstance(key, bytes) else str(key)

    def get(self, key: Any) -> Any:
        return self._alive(key)

    def mget(self, keys: Any) -> list[Any]:
        return [self._alive(key) for key in keys]

    def set(self, key: Any, value: Any) -> None:
        expires = self.waiter.now() + self.expires if self.expires else None
        self.data[self._text(key)] = (value, expires)

    def delete(self, key: Any) -> None:
        self.data.pop(self._text(key), None)

    def incr(self, key: Any) -> int:
        value = int(self._alive(key) or 0) + 1
        self.data[self._text(key)] = (value, None)
        return value

    def expire(self, key: Any, value: Any) -> None:
        if self._text(key) in self.data:
            self.data[self._text(key)] = (self._alive(key), self.waiter.now() + float(value))


class NoBackend(_RunsTheWorker, DisabledBackend):
    """Of an app that stores no results: a job is refused them, as in production; test code has them, as in eager mode."""

    def get_task_meta(self, task_id: str, cache: bool = True) -> Any:
        self._refuse_jobs()
        return super().get_task_meta(task_id, cache=False)

    def _wait(self, result: Any, timeout: float | None) -> Any:
        self._refuse_jobs()
        return super()._wait(result, timeout)

    def _refuse_jobs(self) -> None:
        if not self.waiter.host.publishing():
            self._is_disabled()

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        state, value, error = self.waiter.host.outcome(task_id)
        status = ENDS.get(state, states.PENDING)
        return {
            "task_id": task_id, "status": status, "result": error if status in states.EXCEPTION_STATES else value,
            "traceback": None, "children": [],
        }  # fmt: skip


class _InProcessRedis(_RunsTheWorker):
    server: RedisServer

    def _get_pool(self, **params: Any) -> Any:
        return self.server.pool(**params)

    def _get_client(self) -> Any:
        return Client


def backend_for(
    app: Any, waiter: Waiter, redis_server: Callable[[str], RedisServer], stores: dict[str, dict[str, Any]]
) -> Any:
    """Make the result backend of `app`: of the class it configured when that is Redis, else in memory."""
    cls, url = backend_named(app.backend_cls or app.conf.result_backend, app.loader)
    if isinstance(cls, type) and issubclass(cls, DisabledBackend):
        return type("DisabledBackend", (NoBackend,), {"waiter": waiter})(app=app, url=url)
    if isinstance(cls, type) and issubclass(cls, RedisBackend):
        server = redis_server(str(url or "redis://localhost:6379"))
        made = type(cls.__name__, (_InProcessRedis, cls), {"waiter": waiter, "server": server})
        return made(app=app, url=url)
    text = str(url or cls.__name__)
    scheme = text.split("://")[0].split("+")[0]
    retries = getattr(cls, "exception_safe_to_retry", None) is not Backend.exception_safe_to_retry
    counts = scheme in COUNTERS or bool(getattr(cls, "implements_incr", False))
    members = {
        "waiter": waiter, "data": stores.setdefault(text, {}), "implements_incr": counts, "retries": retries,
    }  # fmt: skip
    return type("MemoryBackend", (MemoryBackend,), members)(app=app, url=text)
