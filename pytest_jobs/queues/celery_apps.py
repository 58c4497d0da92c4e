"""Taking over Celery for a while: transports, backends, globals; and giving everything back."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from functools import wraps
from typing import Any
from unittest.mock import patch
from urllib.parse import urlparse

from celery import Celery, _state
from celery.app import control
from celery.fixups.django import DjangoWorkerFixup
from celery.utils.collections import AttributeDict
from celery.worker import state as worker_state
from celery.worker.control import Panel
from kombu import Connection, connection, pools

from pytest_jobs.errors import UsageError
from pytest_jobs.queues.base import Host
from pytest_jobs.queues.celery_bodies import protected
from pytest_jobs.queues.celery_eager import Eager
from pytest_jobs.queues.celery_producers import Producers
from pytest_jobs.queues.celery_quick import quick
from pytest_jobs.queues.celery_results import Waiter, backend_for
from pytest_jobs.queues.celery_servers import MemoryServer, RabbitServer, RedisServer, Server
from pytest_jobs.queues.celery_transport import transport_class
from pytest_jobs.queues.celery_urls import transports

__all__ = ["Current", "Takeover"]
__tracebackhide__ = True

REDIS_TRANSPORTS = ("redis", "rediss", "sentinel")
RABBITMQ_TRANSPORTS = ("amqp", "amqps", "pyamqp", "librabbitmq")
CACHES = ("_pool", "_backend_cache")
RECONNECTS = 100  # as Celery's broker_connection_max_retries
RUN_STATE = (
    "requests", "reserved_requests", "active_requests", "scheduled_requests", "successful_requests", "total_count",
    "revoked", "revoked_stamps",
)


def _items(collection: Any) -> Any:
    """Copy what one of Celery's worker state collections holds."""
    return dict(collection) if isinstance(collection, dict) else list(collection)


class Current:
    """Makes an app the current one, as it is in its worker process."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __enter__(self) -> None:
        self._kept = _state._tls.current_app, _state.default_app, _state._task_join_will_block
        _state._tls.current_app = _state.default_app = self._app
        _state._set_task_join_will_block(True)

    def __exit__(self, *_: object) -> None:
        _state._tls.current_app, _state.default_app, joins = self._kept
        _state._set_task_join_will_block(joins)


class Takeover:
    """Owns everything of Celery and kombu that is changed while jobs run in process."""

    def __init__(self, hooks: Any, host: Host, broker: str, now: Callable[[], datetime]) -> None:
        self._hooks = hooks
        self._host = host
        self._broker = broker
        self._stack = ExitStack()
        self._eager = Eager(host)
        self._producers = Producers()
        self._transports: dict[Server, type[Any]] = {}
        self._templates: dict[Server, Connection] = {}
        self._couriers: dict[Server, Any] = {}
        self._adopted: dict[int, tuple[Any, dict[str, Any]]] = {}
        self._stores: dict[str, dict[str, Any]] = {}
        self.servers: dict[str, Server] = {}
        self.publisher: Any = None
        self.waiter = Waiter(host, lambda: now().timestamp(), lambda operation: hooks.outage(operation))

    def __enter__(self) -> "Takeover":
        with ExitStack() as stack:
            stack.callback(self._give_back)
            stack.enter_context(self._globals())
            stack.enter_context(quick())
            stack.enter_context(protected())
            stack.enter_context(self._eager.active())
            for app in list(_state._get_active_apps()):
                self.adopt(app)
            takeover = self

            def get_transport_cls(connection: Connection) -> type[Any]:
                return takeover._transport(connection)

            def get_backend(app: Any) -> Any:
                return backend_for(app, takeover.waiter, takeover._redis_server, takeover._stores)

            stack.enter_context(patch.object(Connection, "get_transport_cls", get_transport_cls))
            stack.enter_context(patch.object(connection, "get_transport_cls", transports(connection.get_transport_cls)))
            stack.enter_context(patch.object(Celery, "_get_backend", get_backend))
            stack.enter_context(patch.object(Celery, "send_task", self._sending(Celery.send_task)))
            stack.enter_context(patch.object(control.Control, "broadcast", self._broadcasting()))
            stack.enter_context(patch.object(DjangoWorkerFixup, "install", lambda fixup: fixup))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # Transports

    def _transport(self, connection: Connection) -> type[Any]:
        server = self._server(connection)
        return self._transports[server]

    def _server(self, connection: Connection) -> Server:
        scheme = str(connection.transport_cls or "amqp")
        redis = scheme in REDIS_TRANSPORTS if self._broker == "auto" else self._broker == "redis"
        host = str(connection.hostname or "localhost")
        if redis:
            return self._redis_server(host if "://" in host else f"redis://{host}:{connection.port or 6379}", connection)
        port = f":{connection.port}" if connection.port else ""
        name = f"{scheme}://{host}{port}/{(connection.virtual_host or '').strip('/')}"
        rabbitmq = scheme in RABBITMQ_TRANSPORTS if self._broker == "auto" else self._broker == "rabbitmq"
        return self._known(name, RabbitServer if rabbitmq else MemoryServer, connection)

    def _redis_server(self, url: str, connection: Connection | None = None) -> RedisServer:
        parsed = urlparse(url.split(";")[0])
        name = f"redis://{parsed.hostname or 'localhost'}:{parsed.port or 6379}"
        server = self._known(name, RedisServer, connection)
        assert isinstance(server, RedisServer)
        return server

    def _known(self, name: str, kind: type[Any], connection: Connection | None) -> Server:
        server = self.servers.get(name)
        if server is None:
            server = self.servers[name] = kind(name)
        if server not in self._transports:
            self._transports[server] = transport_class(server, self._hooks)
        if connection is not None and server not in self._templates:
            self._templates[server] = connection
        return server

    def server_of(self, app: Any) -> Server:
        """Return the broker an app consumes from."""
        return self._server(app.connection_for_read())

    def consumes_from(self, app: Any, server: Server) -> bool:
        """Whether an app consumes from a broker; one whose own broker nobody knows disturbs no other app."""
        with suppress(UsageError):
            return self.server_of(app) is server
        return False

    def courier(self, server: Server) -> Any:
        """Return the channel that moves messages on behalf of the plugin."""
        channel = self._couriers.get(server)
        if channel is None:
            connection = self._templates[server].clone()
            connection.ensure_connection(max_retries=RECONNECTS)
            channel = self._couriers[server] = connection.default_channel
        return channel

    def redis_client(self) -> Any:
        """Return a client of the first Redis server, made when no app has one."""
        found = [server for server in self.servers.values() if isinstance(server, RedisServer)]
        return (found[0] if found else self._redis_server("redis://localhost:6379")).client()

    # Apps

    def adopt(self, app: Any) -> None:
        """Put an app's connections aside; it makes new ones, which lead into this process."""
        if id(app) in self._adopted:
            return
        amqp = vars(app).get("amqp")
        kept = {name: getattr(app, name) for name in CACHES}
        kept["local"] = getattr(app._local, "backend", None)
        kept["producers"] = getattr(amqp, "_producer_pool", None)
        kept["queues"] = dict(vars(amqp)["queues"]) if amqp is not None and "queues" in vars(amqp) else None
        self._adopted[id(app)] = (app, kept)
        self._eager.quieten(app)
        self._forget(app)

    @staticmethod
    def _forget(app: Any) -> None:
        for name in CACHES:
            setattr(app, name, None)
        vars(app._local).pop("backend", None)
        amqp = vars(app).get("amqp")
        if amqp is not None:
            amqp._producer_pool = None

    def _give_back(self) -> None:
        self._producers.forget()
        for channel in self._couriers.values():
            channel.qos._on_collect.cancel()
            channel.connection.client.collect()
        for app in list(_state._get_active_apps()):
            self._forget(app)
        for app, kept in self._adopted.values():
            for name in CACHES:
                setattr(app, name, kept[name])
            if kept["local"] is not None:
                app._local.backend = kept["local"]
            amqp = vars(app).get("amqp")
            if amqp is not None:
                amqp._producer_pool = kept["producers"]
                if kept["queues"] is not None:
                    dict.clear(amqp.queues)
                    dict.update(amqp.queues, kept["queues"])
        self._adopted.clear()

    @staticmethod
    def forget_run_state() -> None:
        """Let what a worker process holds in memory die with it: requests, revokes, successful ids."""
        worker_state.reset_state()

    @contextmanager
    def _globals(self) -> Iterator[None]:
        """Set aside what Celery and kombu keep per process."""
        groups = pools.connections, pools.producers
        kept_groups = [dict(group) for group in groups]
        kept_flags = worker_state.should_stop, worker_state.should_terminate
        kept_current = _state._tls.current_app, _state.default_app, _state._task_join_will_block
        kept_state = [(name, _items(getattr(worker_state, name))) for name in RUN_STATE if hasattr(worker_state, name)]
        for group in groups:
            dict.clear(group)
        worker_state.reset_state()
        try:
            yield
        finally:
            for group, kept in zip(groups, kept_groups, strict=True):
                for pool in list(group.values()):
                    pool.force_close_all()
                dict.clear(group)
                dict.update(group, kept)
            worker_state.reset_state()
            for name, items in kept_state:
                getattr(worker_state, name).update(items)
            worker_state.should_stop, worker_state.should_terminate = kept_flags
            _state._tls.current_app, _state.default_app = kept_current[:2]
            _state._set_task_join_will_block(kept_current[2])

    # Publishing and remote control

    def _sending(self, send_task: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(send_task)
        def send(app: Any, *args: Any, **kwargs: Any) -> Any:
            self.adopt(app)
            self._producers.given(app, args, kwargs)
            before, self.publisher = self.publisher, app
            try:
                return send_task(app, *args, **kwargs)
            finally:
                self.publisher = before

        return send

    def _broadcasting(self) -> Callable[..., Any]:
        """Answer remote control from the workers of this process, at once."""

        def broadcast(
            sender: Any, command: str, arguments: Any = None, destination: Any = None, *_: Any,
            reply: bool = False, callback: Any = None, **__: Any,
        ) -> Any:
            worker = self._hooks.worker_of(sender.app)
            name = worker.consumer.hostname
            if destination and name not in destination:
                return [] if reply else None
            state = AttributeDict(app=worker.app, hostname=name, consumer=worker.consumer, tset=set)
            answer = {name: Panel.data[command](state, **(arguments or {}))}
            if callback is not None:
                callback(answer)
            return [answer] if reply else None

        return broadcast
