"""Celery's own worker with five parts replaced: pool, timer, consumer loop; driven one message at a time."""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from celery.app.trace import build_tracer
from celery.worker.consumer import Consumer
from celery.worker.worker import WorkController

from pytest_jobs.queues.base import Host
from pytest_jobs.queues.celery_pool import InProcessPool

__all__ = ["AppWorker"]
__tracebackhide__ = True


class _Scheduled(NamedTuple):
    eta: datetime
    serial: int
    entry: "_Entry"
    priority: int


class _Entry:
    """One call that waits for its instant, as Celery's timer entries look."""

    def __init__(self, fun: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> None:
        self.fun = fun
        self.args = args
        self.kwargs = kwargs or {}
        self.cancelled = self.canceled = False
        self.tref = self

    def __call__(self) -> Any:
        return self.fun(*self.args, **self.kwargs)

    def cancel(self) -> None:
        self.cancelled = self.canceled = True


class VirtualTimer:
    """Celery's timer under virtual time: it schedules by the message's own ETA, never by a monotonic number."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.entries: list[_Scheduled] = []
        self.serial = 0
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.schedule = self

    @property
    def queue(self) -> list[_Scheduled]:
        return sorted(self.entries, key=lambda scheduled: scheduled[:2])

    def _enter(self, when: datetime, entry: _Entry, priority: int) -> _Entry:
        self.serial += 1
        self.entries.append(_Scheduled(when, self.serial, entry, priority))
        return entry

    def call_at(
        self, eta: float, fun: Callable[..., Any], args: tuple[Any, ...] = (), kwargs: Any = None, priority: int = 0
    ) -> _Entry:
        when = args[0].eta
        return self._enter(when if when.tzinfo else when.replace(tzinfo=UTC), _Entry(fun, args, kwargs), priority)

    def call_after(
        self, secs: float, fun: Callable[..., Any], args: tuple[Any, ...] = (), kwargs: Any = None, priority: int = 0
    ) -> _Entry:
        # Rounded up: a token bucket that is asked a moment too early would be asked for ever.
        return self._enter(self.now() + timedelta(microseconds=math.ceil(secs * 1e6)), _Entry(fun, args, kwargs), priority)

    def call_repeatedly(self, secs: float, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> _Entry:
        return _Entry(fun, (), {})

    def next_due(self) -> datetime | None:
        return min((item.eta for item in self.entries if not item.entry.cancelled), default=None)

    def take_due(self, now: datetime) -> _Entry | None:
        due = min((item for item in self.entries if item.eta <= now), key=lambda item: item[:2], default=None)
        if due is None:
            return None
        self.entries.remove(due)
        return due.entry

    def cancel(self, entry: _Entry) -> None:
        entry.cancel()

    def clear(self) -> None:
        self.entries.clear()

    def stop(self) -> None:
        self.clear()

    def start(self) -> None:
        """Never a thread."""

    def ensure_started(self) -> None:
        """Never a thread."""

    def __len__(self) -> int:
        return len(self.entries)


class _Strategies(dict[str, Any]):
    """How each task's messages are received: found out when the first one comes, for a project has many tasks and a test few."""

    def __init__(self, consumer: "InProcessConsumer") -> None:
        super().__init__()
        self._consumer = consumer

    def __missing__(self, name: str) -> Any:
        consumer = self._consumer
        task = consumer.app.tasks.get(name)
        if task is None:
            raise KeyError(name)
        consumer.instrument(task)
        # As `Consumer.update_strategies` does it for all tasks.
        strategy = self[name] = task.start_strategy(consumer.app, consumer)
        task.__trace__ = build_tracer(name, task, consumer.app.loader, consumer.hostname, app=consumer.app)
        return strategy

    def renew(self) -> None:
        """Find out anew what was known."""
        known = [name for name in self if name in self._consumer.app.tasks]
        self.clear()
        for name in known:
            self[name]


class InProcessConsumer(Consumer):
    """Celery's consumer; its loop only connects, the messages are handed to it one by one."""

    class Blueprint(Consumer.Blueprint):
        default_steps = (
            "celery.worker.consumer.connection:Connection",
            "celery.worker.consumer.events:Events",
            "celery.worker.consumer.tasks:Tasks",
            "celery.worker.consumer.consumer:Evloop",
        )

    instrument: Callable[[Any], None]
    owner: "AppWorker"
    strategies: Any

    def start(self) -> None:
        self.restart_count += 1
        with warnings.catch_warnings():
            # Up to 5.4 each start warns of a setting that concerns real connections only.
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            self.blueprint.start(self)

    def loop(self, *_: Any) -> None:
        self.task_consumer.on_message = self.create_task_handler()
        self.task_consumer.consume()
        self.on_ready()

    def _limit_move_to_pool(self, request: Any) -> None:
        self.owner.tag = str(request.message.delivery_tag)
        super()._limit_move_to_pool(request)

    def update_strategies(self) -> None:
        if not isinstance(self.strategies, _Strategies):
            self.strategies = _Strategies(self)
        self.strategies.renew()


class AppWorker:
    """One app's worker process, as far as one thread can be one."""

    def __init__(
        self, app: Any, host: Host, instrument: Callable[[Any], None], now: Callable[[], datetime], current: Any
    ) -> None:
        self.app = app
        self.current = current
        self.tag = ""
        pool = type("Pool", (InProcessPool,), {"host": host, "worker": self})
        consumer = type("Consumer", (InProcessConsumer,), {"instrument": staticmethod(instrument), "owner": self})
        with current(), warnings.catch_warnings():
            # Which pool a real worker has is no matter here; what it keeps of time limits is told elsewhere.
            warnings.filterwarnings("ignore", r"(?s).*worker_pool setting", UserWarning)
            self.controller = WorkController(
                app=app, pool_cls=pool, consumer_cls=consumer, timer_cls=VirtualTimer, use_eventloop=False,
                without_gossip=True, without_mingle=True, without_heartbeat=True, concurrency=1,
                prefetch_multiplier=0, pidfile=None, statedb=None, beat=False,
                autoscale=None, optimization=None, hostname="jobs@localhost", loglevel="WARN", task_events=False,
            )
            self.consumer = self.controller.consumer
            self.timer: VirtualTimer = self.controller.timer
            self.timer.now = now
            self.controller.blueprint.start(self.controller)
        self.channel = self.consumer.task_consumer.channel
        self.transport = self.consumer.connection.transport
        self.server = self.channel.server
        self.known = len(app.tasks)

    def receive(self, tag: str, queue: str, payload: dict[str, Any], at_once: bool = False) -> None:
        """Let the consumer receive a message; `at_once` whatever its task's rate limit."""
        self.tag = tag
        if len(self.app.tasks) != self.known:
            self.consumer.update_strategies()
            self.known = len(self.app.tasks)
        if queue not in self.transport._callbacks:
            self.consumer.add_task_queue(queue)
        self.consumer.perform_pending_operations()
        with self._unlimited() if at_once else nullcontext():
            self.transport._callbacks[queue](payload)
        self.consumer.perform_pending_operations()

    @contextmanager
    def _unlimited(self) -> Iterator[None]:
        kept = dict(self.consumer.task_buckets)
        self.consumer.task_buckets.update(dict.fromkeys(kept))
        try:
            yield
        finally:
            self.consumer.task_buckets.update(kept)

    def run_due(self, now: datetime) -> bool:
        """Run the first message whose time has come; return whether there was one."""
        entry = self.timer.take_due(now)
        if entry is not None and not entry.cancelled:
            request = entry.args[0] if entry.args else None
            self.tag = str(getattr(getattr(request, "message", None), "delivery_tag", ""))
            entry()
        return entry is not None

    def refresh(self) -> None:
        """Let the consumer see options of tasks that were changed."""
        self.consumer.update_strategies()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Receive messages while the only child runs a task: what they ask for begins after it."""
        self.consumer.pool.busy = True
        try:
            yield
        finally:
            self.consumer.pool.busy = False

    def take_received(self) -> tuple[str, Callable[[], None]] | None:
        """Return the job, and how to begin it, of the next message that was received while the child was busy."""
        if not self.consumer.pool.waiting:
            return None
        job_id, tag, execute = self.consumer.pool.waiting.pop(0)

        def begin() -> None:
            self.tag = tag
            execute()
            self.consumer.perform_pending_operations()

        return job_id, begin

    def holds(self, tag: str) -> bool:
        """Whether this worker holds a message unacknowledged."""
        self.channel.qos._flush()
        return tag in self.channel.qos._delivered

    def lose_channel(self) -> None:
        """Lose the channel, as when RabbitMQ closes it: all that is unacknowledged comes again; a task goes on running."""
        self.consumer.on_close()
        self.timer.clear()
        self.channel.lose_messages()

    def die(self) -> None:
        """End as after SIGKILL: nothing is restored, nothing acknowledged by this side."""
        self.timer.clear()
        self.channel.lose_connection()
        self.close()

    def end(self) -> None:
        """End as after a shutdown: what waits for its time or was never acknowledged goes back to the broker."""
        self.timer.clear()
        self.channel.close_in_order()
        self.close()

    def close(self) -> None:
        """Let go of everything this worker holds."""
        self.channel.qos._on_collect.cancel()
        self.channel.qos._delivered.clear()
        self.consumer.connection.collect()
        self.controller.pool = self.consumer.pool = None
