"""Celery's own worker with five parts replaced: pool, timer, consumer loop; driven one message at a time."""

import os
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery.concurrency.base import BasePool
from celery.exceptions import Ignore, Reject, Retry
from celery.worker.consumer import Consumer
from celery.worker.worker import WorkController

from pytest_jobs.queues.base import Envelope, Host, Outcome

__all__ = ["AppWorker"]
__tracebackhide__ = True


class _Scheduled(NamedTuple):
    eta: datetime
    serial: int
    entry: "_Entry"


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

    def _enter(self, when: datetime, entry: _Entry) -> _Entry:
        self.serial += 1
        self.entries.append(_Scheduled(when, self.serial, entry))
        return entry

    def call_at(
        self, eta: float, fun: Callable[..., Any], args: tuple[Any, ...] = (), kwargs: Any = None, priority: int = 0
    ) -> _Entry:
        when = args[0].eta
        return self._enter(when if when.tzinfo else when.replace(tzinfo=UTC), _Entry(fun, args, kwargs))

    def call_after(
        self, secs: float, fun: Callable[..., Any], args: tuple[Any, ...] = (), kwargs: Any = None, priority: int = 0
    ) -> _Entry:
        return self._enter(self.now() + timedelta(seconds=secs), _Entry(fun, args, kwargs))

    def call_repeatedly(self, secs: float, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> _Entry:
        return _Entry(fun, (), {})

    def next_due(self) -> datetime | None:
        return min((eta for eta, _, entry in self.entries if not entry.cancelled), default=None)

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


class InProcessPool(BasePool):
    """Runs one execution at a time, in the calling thread, and answers as billiard's pool does."""

    body_can_be_buffer = True
    host: Host
    worker: "AppWorker"

    @property
    def num_processes(self) -> int:
        return 1

    def _get_info(self) -> dict[str, Any]:
        return {**super()._get_info(), "max-concurrency": 1, "processes": [os.getpid()]}

    def on_apply(
        self, target: Any, args: tuple[Any, ...] = (), kwargs: Any = None, callback: Any = None,
        accept_callback: Any = None, timeout_callback: Any = None, error_callback: Any = None,
        soft_timeout: float | None = None, timeout: float | None = None, **_: Any,
    ) -> None:
        request = args[2]
        flush = self.worker.consumer.perform_pending_operations

        def run() -> Outcome:
            accept_callback(os.getpid(), 0.0)
            # Up to Celery 5.6 acks wait for the loop; an early ack must have left before the body begins.
            flush()
            try:
                with self.worker.current():
                    result = target(*args, app=self.app)
            except (Exception, SystemExit):  # noqa: BLE001 - whatever a task raises is its outcome
                info = ExceptionInfo()
                error_callback(info)
                return _outcome(info.exception)
            except BaseException as error:
                lost = self.host.survived(error)
                if lost is None:
                    raise
                return self._child_died(lost.timed_out, error_callback, timeout_callback)
            callback(result)
            failed, value, _runtime = result
            return _outcome(value.exception) if failed else Outcome("succeeded")

        redelivered = bool((request.get("delivery_info") or {}).get("redelivered"))
        limits, tag = (soft_timeout, timeout), self.worker.tag

        def work() -> None:
            self.host.execute(args[1], request.get("retries") or 0, redelivered, tag, limits, run)
            flush()

        self.host.apply(work)

    def _child_died(self, limit: float | None, error_callback: Any, timeout_callback: Any) -> Outcome:
        """Tell the parent that its child is gone, as billiard does: a hard time limit, or a lost process."""
        try:
            if limit is not None:
                raise TimeLimitExceeded(limit) from None
            raise WorkerLostError("Worker exited prematurely: signal 9 (SIGKILL)") from None
        except (TimeLimitExceeded, WorkerLostError) as error:
            error_callback(ExceptionInfo())
            if limit is not None and timeout_callback is not None:
                timeout_callback(soft=False, timeout=limit)
            return Outcome("timed out" if limit is not None else "worker lost", error=error)


def _outcome(error: BaseException) -> Outcome:
    if isinstance(error, ExceptionWithTraceback):
        error = error.exc
    if isinstance(error, Retry):
        return Outcome("retried", error=error.exc if isinstance(error.exc, BaseException) else error)
    if isinstance(error, Reject):
        return Outcome("requeued" if error.requeue else "rejected", error=error)
    if isinstance(error, Ignore):
        return Outcome("ignored", error=error)
    return Outcome("worker lost" if isinstance(error, SystemExit) else "failed", error=error)


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

    def update_strategies(self) -> None:
        for task in list(self.app.tasks.values()):
            self.instrument(task)
        super().update_strategies()


class AppWorker:
    """One app's worker process, as far as one thread can be one."""

    def __init__(
        self, app: Any, host: Host, instrument: Callable[[Any], None], now: Callable[[], datetime], current: Any
    ) -> None:
        self.app = app
        self.current = current
        self.tag = ""
        pool = type("Pool", (InProcessPool,), {"host": host, "worker": self})
        consumer = type("Consumer", (InProcessConsumer,), {"instrument": staticmethod(instrument)})
        with current():
            self.controller = WorkController(
                app=app, pool_cls=pool, consumer_cls=consumer, timer_cls=VirtualTimer, use_eventloop=False,
                without_gossip=True, without_mingle=True, without_heartbeat=True, concurrency=1,
                prefetch_multiplier=0, disable_rate_limits=True, pidfile=None, statedb=None, beat=False,
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

    def deliver(self, envelope: Envelope) -> None:
        """Let the consumer receive a message."""
        self.tag = envelope.tag
        if len(self.app.tasks) != self.known:
            self.consumer.update_strategies()
            self.known = len(self.app.tasks)
        if envelope.queue not in self.transport._callbacks:
            self.consumer.add_task_queue(envelope.queue)
        self.consumer.perform_pending_operations()
        self.transport._callbacks[envelope.queue](envelope.payload)
        self.consumer.perform_pending_operations()

    def refresh(self) -> None:
        """Let the consumer see options of tasks that were changed."""
        self.consumer.update_strategies()

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
