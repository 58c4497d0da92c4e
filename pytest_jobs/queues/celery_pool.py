"""The pool of Celery's worker, replaced: one child, which is the calling thread."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from billiard.util import error as log_error
from celery.app.task import Task
from celery.concurrency.base import BasePool
from celery.exceptions import Ignore, Reject, Retry

from pytest_jobs.errors import RunawayJobs, UsageError
from pytest_jobs.queues.base import Host, Outcome
from pytest_jobs.queues.celery_limits import kept_limits

__all__ = ["InProcessPool"]
__tracebackhide__ = True


class InProcessPool(BasePool):
    """Runs one execution at a time, in the calling thread, and answers as billiard's pool does."""

    body_can_be_buffer = True
    host: Host
    worker: Any
    busy = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.waiting: list[tuple[str, str, Callable[[], None]]] = []

    def flush(self) -> None:
        """Forget what was received and not begun."""
        self.waiting.clear()

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
        # As billiard: what neither the message nor the task says, the worker's own configuration does.
        limits = (soft_timeout or self.app.conf.task_soft_time_limit or None, timeout or self.app.conf.task_time_limit or None)
        execute = partial(self._execute, target, args, callback, accept_callback, timeout_callback, error_callback, limits)
        if self.busy:
            self.waiting.append((args[1], self.worker.tag, execute))
        else:
            execute()

    def _execute(
        self, target: Any, args: tuple[Any, ...], callback: Any, accept_callback: Any, timeout_callback: Any,
        error_callback: Any, limits: tuple[float | None, float | None],
    ) -> None:
        request = args[2]
        flush = self.worker.consumer.perform_pending_operations

        def run() -> Outcome:
            accept_callback(os.getpid(), 0.0)
            # Up to Celery 5.6 acks wait for the loop; an early ack must have left before the body begins, a late one with it.
            flush()
            try:
                with self.worker.current():
                    result = target(*args, app=self.app)
            except (Exception, SystemExit):  # noqa: BLE001 - whatever a task raises is its outcome
                info = ExceptionInfo()
                told = _tell(error_callback, info)
                flush()
                return _outcome(info.exception, told)
            except BaseException as error:
                lost = self.host.survived(error)
                if lost is None:
                    raise
                outcome = self._child_died(lost.timed_out, error_callback, timeout_callback)
                flush()
                return outcome
            told = _tell(callback, result)
            flush()
            failed, value, _runtime = result
            return _outcome(value.exception, told) if failed else Outcome("succeeded")

        limits, ignoring = kept_limits(self.app, limits)
        if ignoring:
            self.host.unlimited(args[0], ignoring)
        redelivered = bool((request.get("delivery_info") or {}).get("redelivered"))
        tag = self.worker.tag

        def work() -> None:
            self.host.execute(args[1], request.get("retries") or 0, redelivered, tag, limits, run)

        self.host.apply(args[1], tag, work)

    def _child_died(self, limit: float | None, error_callback: Any, timeout_callback: Any) -> Outcome:
        """Tell the parent that its child is gone, as billiard does: a hard time limit, or a lost process."""
        try:
            if limit is not None:
                raise TimeLimitExceeded(limit) from None
            raise WorkerLostError("Worker exited prematurely: signal 9 (SIGKILL)") from None
        except (TimeLimitExceeded, WorkerLostError) as error:
            told = _tell(error_callback, ExceptionInfo())
            if limit is not None and timeout_callback is not None:
                told = _tell(timeout_callback, soft=False, timeout=limit) or told
            return Outcome("result lost" if not told else "timed out" if limit is not None else "worker lost", error=error)


def _tell(callback: Any, *args: Any, **kwargs: Any) -> bool:
    """Call back as billiard does: what the callback raises goes no further, as when the results are out of reach for it too."""
    try:
        callback(*args, **kwargs)
    except (AssertionError, MemoryError, RunawayJobs, UsageError):
        raise
    except Exception as raised:  # noqa: BLE001 - whatever it is
        log_error("Pool callback raised exception: %r", raised, exc_info=True)
        return False
    return True


def _outcome(error: BaseException, told: bool) -> Outcome:
    if isinstance(error, ExceptionWithTraceback):
        error = error.exc
    if isinstance(error, Retry):
        return Outcome("retried", error=error.exc if isinstance(error.exc, BaseException) else error)
    if isinstance(error, Reject):
        return Outcome("retry lost" if _is_of_retry(error) else "requeued" if error.requeue else "rejected", error=error)
    if isinstance(error, Ignore):
        return Outcome("ignored", error=error)
    # Up to Celery 5.6 no serializer takes SystemExit.
    return Outcome("worker lost" if isinstance(error, SystemExit) else "failed" if told else "result lost", error=error)


def _is_of_retry(error: Reject) -> bool:
    """Tell whether Celery itself rejects a message because the retry of its job could not be published."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code is Task.retry.__code__
