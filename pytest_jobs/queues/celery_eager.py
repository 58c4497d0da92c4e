"""Apps with `task_always_eager`: the real path all the same, settled at once after each publish from test code."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest.mock import patch

from celery import Celery
from celery.app.task import Task
from celery.canvas import Signature, _chain, _chord, group

from pytest_jobs.queues.base import Host

__all__ = ["Eager"]
__tracebackhide__ = True

KEY = "task_always_eager"


class _Off(int):
    """False, told apart from what anybody else writes into the configuration."""

    def __repr__(self) -> str:
        return "False"


OFF = _Off(0)


class _Within(threading.local):
    """The app through which a thread is publishing."""

    app: Any = None


class Eager:
    """Owns the apps that were eager: switches that off, and runs what test code publishes inline."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._depth = 0
        self._within = _Within()
        self._apps: dict[int, tuple[Any, bool, Any]] = {}

    @contextmanager
    def active(self) -> Iterator[None]:
        """Watch every way of publishing."""
        load_config = Celery._load_config

        @wraps(load_config)
        def loaded(app: Any) -> Any:
            conf = load_config(app)
            self.quieten(app)
            return conf

        with ExitStack() as stack:
            stack.callback(self._restore)
            stack.enter_context(patch.object(Celery, "_load_config", loaded))
            for cls in (Task, Signature, _chain, group, _chord):
                stack.enter_context(patch.object(cls, "apply_async", self._inline(cls.apply_async)))
            stack.enter_context(patch.object(Celery, "send_task", self._inline(Celery.send_task)))
            yield

    def quieten(self, app: Any) -> bool:
        """Switch an app's eager mode off; tell whether it was on."""
        if id(app) in self._apps:
            if app.conf.get(KEY):
                app.conf[KEY] = OFF
            return True
        if not app.configured or not app.conf.get(KEY):
            return False
        changes = app.conf.changes
        self._apps[id(app)] = (app, KEY in changes, changes.get(KEY))
        app.conf[KEY] = OFF
        return True

    def _restore(self) -> None:
        for app, own, value in self._apps.values():
            if app.conf.changes.get(KEY) is not OFF:
                continue  # somebody put it back since
            if own:
                app.conf[KEY] = value
            else:
                app.conf.changes.pop(KEY, None)
        self._apps.clear()

    def _inline(self, publish: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(publish)
        def publishing(target: Any, *args: Any, **kwargs: Any) -> Any:
            app: Any = target if isinstance(target, Celery) else getattr(target, "app", None)
            within = self._within
            if app is within.app:  # one way of publishing uses another
                return publish(target, *args, **kwargs)
            before, within.app = within.app, app
            try:
                if not self.quieten(app) or self._depth or not self._host.publishing():
                    return publish(target, *args, **kwargs)
                self._depth += 1
                try:
                    result = publish(target, *args, **kwargs)
                finally:
                    self._depth -= 1
            finally:
                within.app = before
            self._host.run_inline(result.id, bool(app.conf.get("task_eager_propagates")))
            return result

        return publishing
