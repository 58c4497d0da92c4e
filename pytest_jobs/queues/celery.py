"""Celery: every live app taken over, its real worker driven message by message."""

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from queue import Empty
from typing import Any

from celery import _state
from celery.backends.redis import RedisBackend
from celery.canvas import Signature
from celery.exceptions import SoftTimeLimitExceeded
from kombu.utils.uuid import uuid
from redis.exceptions import ConnectionError as RedisConnectionError

from pytest_jobs.errors import UsageError
from pytest_jobs.queues.base import Envelope, Host
from pytest_jobs.queues.celery_apps import Current, Takeover
from pytest_jobs.queues.celery_beat import VirtualBeat, beating
from pytest_jobs.queues.celery_beat import run as run_beats
from pytest_jobs.queues.celery_bodies import Bodies
from pytest_jobs.queues.celery_channel import dumps, loads
from pytest_jobs.queues.celery_limits import prefetch, soft_window
from pytest_jobs.queues.celery_messages import applied, decoded, envelope_of
from pytest_jobs.queues.celery_redelivery import Redelivery
from pytest_jobs.queues.celery_servers import RedisServer, Server
from pytest_jobs.queues.celery_signals import listen
from pytest_jobs.queues.celery_worker import AppWorker

__all__ = ["CeleryQueue"]
__tracebackhide__ = True


class CeleryQueue:
    """The adapter for Celery; see `queues.base.Queue` for what its methods promise."""

    def __init__(self, app: Any = None, broker: str = "auto", now: Callable[[], datetime] | None = None) -> None:
        self.app = app
        self._broker = broker
        self._now = now or (lambda: datetime.now(UTC))
        self._stack = ExitStack()
        self._workers: dict[int, AppWorker] = {}
        self._owners: dict[str, Any] = {}
        self.bodies = Bodies()
        self._beats: list[VirtualBeat] = []
        self.outage: Callable[[str], None] = lambda operation: None

    def start(self, host: Host) -> None:
        self.host = self.bodies.host = host
        self.takeover = Takeover(self, host, self._broker, self._now)
        self._redelivery = Redelivery(self._now(), self.takeover.courier)
        self._stack.enter_context(self.takeover)
        self._stack.callback(self.bodies.restore)
        listen(self._stack, host)

    def stop(self) -> None:
        with self._stack:
            for worker in self._workers.values():
                worker.close()
            self._workers.clear()

    def redis(self) -> Any:
        return self.takeover.redis_client()

    # What brokers tell

    def on_publish(self, server: Server, queue: str, message: dict[str, Any], raw: str) -> None:
        envelope = envelope_of(server, queue, message, raw)
        if envelope is not None:
            if self.takeover.publisher is not None:
                self._owners[envelope.id] = self.takeover.publisher
            self.host.published(envelope)

    def on_put(self, server: Server, queue: str, message: dict[str, Any], raw: str) -> None:
        envelope = envelope_of(server, queue, message, raw)
        if envelope is not None:
            self.host.put(envelope)
            self._redelivery.put(envelope)

    def on_settle(self, tag: str, how: str) -> None:
        self._redelivery.release(tag)
        self.host.settled(tag, how)

    def on_dead(self, job_id: str | None) -> None:
        self.host.ended(job_id or "", "rejected", None)

    def on_broker(self, operation: str) -> None:
        self.outage(operation)

    def consumes(self, server: Server, queue: str) -> bool:
        return any(queue in app.amqp.queues for app in self._consumers(server))

    # Messages

    def publish(self, task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], retries: int = 0) -> str:
        options = {"retries": retries} if retries else {}
        found = self.resolve(task) if isinstance(task, str) else task
        if found is None and isinstance(task, str):
            raise UsageError(f"no task is registered as {task!r}; {self._registered()}")
        if isinstance(task, dict) and not isinstance(task, Signature) and isinstance(task.get("task"), str):
            found = Signature.from_dict({"args": (), "kwargs": {}, "options": {}, **task}, app=self._default_app())
        if not hasattr(found, "apply_async"):
            raise UsageError(f"{task!r} is no job; allowed are a task, a signature and a registered name")
        return applied(found, args, kwargs, options)

    def resolve(self, target: Any) -> Any | None:
        if isinstance(target, str):
            for app in self._apps():
                if target in app.tasks:
                    return app.tasks[target]
            return None
        if isinstance(target, Signature):
            return None
        return target if hasattr(target, "apply_async") and hasattr(target, "name") else None

    def names(self) -> list[str]:
        return sorted({name for app in self._apps() for name in app.tasks if not name.startswith("celery.")})

    def _registered(self) -> str:
        names = self.names()
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        return f"registered are {', '.join(names[:8])}{more}" if names else "no task is registered at all"

    def _apps(self) -> list[Any]:
        if self.app is not None:
            return [self.app]
        current = _state.get_current_app()
        others = [app for app in _state._get_active_apps() if app is not current]
        return [current, *sorted(others, key=lambda app: not app.finalized)]

    def _default_app(self) -> Any:
        return self.app or _state.get_current_app()

    def pop(self, queues: Collection[str] | None = None) -> Envelope | None:
        for server in list(self.takeover.servers.values()):
            for queue in [each for each in server.known if queues is None or each in queues]:
                channel = self.takeover.courier(server)
                try:
                    self.outage("consume")
                    raw = channel.take(queue)
                except Empty:
                    continue
                message = loads(raw)
                envelope = envelope_of(server, queue, message, raw, popped=True)
                if envelope is not None:
                    return envelope
                if self.consumes(server, queue):  # a worker logs and rejects what is no task's
                    self.worker_of(self._consumers(server)[0]).receive("", queue, message)
                else:  # another program's, or a SimpleQueue's
                    channel.put_front(queue, message)
        return None

    def put(self, envelope: Envelope, *, front: bool = False) -> None:
        channel = self.takeover.courier(envelope.broker)
        message = loads(envelope.raw)
        if front:
            channel.put_front(envelope.queue, message)
        else:
            channel._put(envelope.queue, message)

    def copy(self, envelope: Envelope, *, redelivered: bool) -> Envelope:
        message = loads((self.marked(envelope) if redelivered else envelope).raw)
        message["properties"]["delivery_tag"] = uuid()
        copied = envelope_of(envelope.broker, envelope.queue, message, dumps(message), popped=True)
        assert copied is not None
        return copied

    def marked(self, envelope: Envelope) -> Envelope:
        message = loads(envelope.raw)
        message["headers"]["redelivered"] = True
        message["properties"]["delivery_info"]["redelivered"] = True
        return envelope._replace(raw=dumps(message), payload=message, redelivered=True)

    def deliver(self, envelope: Envelope, at_once: bool = False) -> None:
        if envelope.payload is None:
            envelope = envelope._replace(payload=loads(envelope.raw))
        self._redelivery.hold(envelope.tag, self._now(), envelope.broker, envelope.queue)
        self.host.fetched(envelope)
        self.worker_of(self._consumer_of(envelope)).receive(envelope.tag, envelope.queue, envelope.payload, at_once)

    def _consumer_of(self, envelope: Envelope) -> Any:
        """Choose the app whose worker takes a message: its publisher's when that knows the task."""
        if self.app is not None:
            return self.app
        owner = self._owners.get(envelope.id)
        if owner is not None and envelope.name in owner.tasks:
            return owner
        here = self._consumers(envelope.broker)
        knowing = [app for app in here if envelope.name in app.tasks]
        return (knowing or [owner] if owner is not None else knowing or here or [_state.get_current_app()])[0]

    def _consumers(self, server: Server) -> list[Any]:
        return [app for app in self._apps() if app.finalized and self.takeover.consumes_from(app, server)]

    def worker_of(self, app: Any) -> AppWorker:
        worker = self._workers.get(id(app))
        if worker is None:
            self.takeover.adopt(app)
            current = partial(Current, app)
            include = app.conf.changes.get("include", None)
            worker = self._workers[id(app)] = AppWorker(app, self.host, self.bodies.lead, self._now, current)
            # WorkController writes the imported modules into the configuration.
            if include is None:
                app.conf.changes.pop("include", None)
            else:
                app.conf.include = include
        return worker

    def refresh(self) -> None:
        """Let running workers see changed task options."""
        for worker in self._workers.values():
            worker.refresh()

    def unreachable(self, what: str, message: str) -> BaseException:
        app = self._default_app()
        if what == "results":
            redis = isinstance(app.backend, RedisBackend)
        else:
            redis = isinstance(self.takeover.server_of(app), RedisServer)
        error: BaseException = RedisConnectionError(message) if redis else ConnectionError(message)
        return error

    def beat(self, period: timedelta, beats: int, fresh: bool, until: Callable[[datetime], Any]) -> None:
        app = beating(self._apps(), self._default_app())
        self.takeover.adopt(app)
        if fresh:
            self._beats.clear()
        run_beats(self._beats, app, beats, period, self._now, until)

    def together(self, task: Any = None) -> AbstractContextManager[None]:
        return Current(task.app if task is not None else self._default_app())

    def soft_window(self, task: str) -> float | None:
        found = self.resolve(task) if task else None
        return soft_window(found.app if found is not None else self._default_app())

    def prefetch(self, children: int) -> int | None:
        app = self._default_app()
        return prefetch(app, children, isinstance(self.takeover.server_of(app), RedisServer))

    def soft_limit(self, limit: float) -> BaseException:
        error: BaseException = SoftTimeLimitExceeded(limit)
        return error

    def kill(self) -> None:
        self._end(AppWorker.die)

    def shutdown(self) -> None:
        self._end(AppWorker.end)

    def _end(self, how: Callable[[AppWorker], None]) -> None:
        for worker in list(self._workers.values()):
            how(worker)
        self._workers.clear()
        self.takeover.forget_run_state()

    def decode(self, raw: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return decoded(loads(raw))

    # Time

    def next_due(self) -> datetime | None:
        due = [self._redelivery.next_due(), *(worker.timer.next_due() for worker in self._workers.values())]
        return min((instant for instant in due if instant is not None), default=None)

    def run_due(self, now: datetime) -> bool:
        overdue = self._redelivery.run_due(now, self._close_channel)
        for worker in list(self._workers.values()):
            if worker.run_due(now):
                return True
        return overdue

    def redelivery_due(self) -> datetime | None:
        return self._redelivery.next_due()

    def redeliver_due(self, now: datetime) -> None:
        self._redelivery.run_due(now, self._close_channel)
        for envelope in self._redelivery.restored:
            if self.takeover.courier(envelope.broker).remove(envelope.queue, envelope.raw):
                worker = self.worker_of(self._consumer_of(envelope))
                with worker.busy():
                    self.deliver(envelope)

    def take_received(self) -> tuple[str, Callable[[], None]] | None:
        for worker in self._workers.values():
            received = worker.take_received()
            if received is not None:
                return received
        return None

    def _close_channel(self, tag: str) -> None:
        for worker in self._workers.values():
            if worker.holds(tag):
                worker.lose_channel()
