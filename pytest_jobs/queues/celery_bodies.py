"""The bodies of tasks, led through the host."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial, wraps
from types import TracebackType
from typing import Any
from unittest.mock import patch

from celery.app.task import Task
from celery.app.trace import task_has_custom

from pytest_jobs.queues.base import Host

__all__ = ["Bodies", "protected"]
__tracebackhide__ = True


@contextmanager
def protected() -> Iterator[None]:
    """Let the body keep its request when a task's own `__call__` calls `super().__call__()`, as in a worker.

    A worker patches the same when it starts (`_install_stack_protection` in celery.app.trace), but allows for one request a process;
    here a second delivery may run within the first.
    """
    direct = Task.__call__

    @wraps(direct)
    def call(task: Any, /, *args: Any, **kwargs: Any) -> Any:
        request = task.request_stack.top
        if request is None or request._protected or request.called_directly:
            return direct(task, *args, **kwargs)
        request._protected = 1
        return task.run(*args, **kwargs)

    with patch.object(Task, "__call__", call):
        yield


class Bodies:
    """Owns what was put in the place of tasks' bodies."""

    host: Host

    def __init__(self) -> None:
        self.led: dict[int, tuple[Any, str, Any, bool]] = {}
        self._called: dict[type, tuple[Any, bool]] = {}

    def lead(self, task: Any) -> None:
        """Lead a task's body, inside autoretry, through the host."""
        if id(task) in self.led:
            return
        name = "_orig_run" if "_orig_run" in vars(task) else "run"
        body = getattr(task, name)
        own = name in vars(task)

        setattr(task, name, _led(body, lambda args, kwargs: self.host.body(task, body, args, kwargs)))
        self.led[id(task)] = (task, name, body, own)
        if task_has_custom(task, "__call__"):
            self._lead_call(type(task))

    def _lead_call(self, kind: type) -> None:
        """Lead what a project's tasks do around their bodies, which an instance cannot override."""
        if kind in self._called:
            return
        call = kind.__call__

        self._called[kind] = call, "__call__" in vars(kind)
        around = _led(call, lambda args, kwargs: self.host.call(args[0], partial(call, args[0]), args[1:], kwargs))
        kind.__call__ = around  # type: ignore[method-assign]

    def restore(self) -> None:
        """Leave the tasks as they were."""
        for task, name, body, own in self.led.values():
            if own:
                setattr(task, name, body)
            else:
                delattr(task, name)
            vars(task).pop("__trace__", None)
            vars(task).pop("override_max_retries", None)
        self.led.clear()
        for kind, (call, own) in self._called.items():
            if own:
                kind.__call__ = call  # type: ignore[method-assign]
            else:
                del kind.__call__
        self._called.clear()


def _led(body: Callable[..., Any], lead: Callable[[tuple[Any, ...], Mapping[str, Any]], Any]) -> Callable[..., Any]:
    """Make what stands for a body, and hands its arguments on."""

    @wraps(body)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return lead(args, kwargs)
        except Exception as error:  # noqa: BLE001 - it goes on
            raise error.with_traceback(_theirs(error.__traceback__))  # noqa: B904 - it is the same

    return run


def _theirs(traceback: TracebackType | None) -> TracebackType | None:
    """Leave out our own frames: a worker's log shows the project's."""
    frames = []
    while traceback is not None:
        frames.append(traceback)
        traceback = traceback.tb_next
    kept: TracebackType | None = None
    for one in reversed(frames):
        if not str(one.tb_frame.f_globals.get("__name__", "")).startswith("pytest_jobs."):
            kept = TracebackType(kept, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return kept
