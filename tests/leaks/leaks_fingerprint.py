"""A conftest for a generated suite: what a process has is the same after each of its tests."""

import gc
import os
import random
import signal
import sys
import threading
import time

import celery
import pytest
from celery import Celery, _state
from celery.fixups.django import DjangoWorkerFixup
from celery.worker import state as worker_state
from kombu import Connection, pools

MODULES = ("time", "os", "socket", "smtplib", "http.client", "urllib3.connectionpool", "requests.sessions", "sqlite3", "random",
           "builtins", "io", "pathlib", "asyncio.events", "threading", "datetime", "celery.app.base", "celery.app.task",
           "celery.result", "celery.canvas", "celery.app.control", "kombu.connection", "redis.client", "redis.connection")  # fmt: skip


def descriptors():
    """Every open file descriptor and what it leads to."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return found


def members(name):
    module = sys.modules.get(name)
    found = {}
    for key, value in vars(module).items() if module is not None else ():
        found[f"{name}.{key}"] = id(value)
        if isinstance(value, type) and value.__module__ == name:
            found |= {f"{name}.{key}.{member}": id(each) for member, each in vars(value).items() if member != "__doc__"}
    return found


def fingerprint(app):
    """Everything that must be the same after a test."""
    monitoring = getattr(sys, "monitoring", None)
    return {
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "descriptors": descriptors(),
        "environment": {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
        "signal handlers": {number: repr(signal.getsignal(number)) for number in signal.valid_signals()},
        "trace": (sys.gettrace(), sys.getprofile(), threading.gettrace(), threading.getprofile()),
        "monitoring": [monitoring.get_tool(tool) for tool in range(6)] if monitoring else None,
        "hooks": (sys.unraisablehook, sys.excepthook, threading.excepthook, sys.displayhook),
        "recursion limit": sys.getrecursionlimit(),
        "working directory": os.getcwd(),
        "clock": abs(time.time() - os.times().elapsed - OFFSET) < 5,
        "sleep": time.sleep,
        "current apps": (_state._tls.current_app, _state.default_app, _state._task_join_will_block),
        "configuration": {name: repr(value) for name, value in app.conf.changes.items() if value},
        "app": [(name, repr(getattr(app, name))) for name in ("_pool", "_backend_cache")],
        "local backend": repr(getattr(app._local, "backend", None)),
        "tasks": {name: sorted(set(vars(task)) - {"_exec_options"}) for name, task in app.tasks.items()},
        "bodies": {name: getattr(task.run, "__qualname__", "") for name, task in app.tasks.items()},
        "queues": sorted(app.amqp.queues),
        "pools": (dict(pools.connections), dict(pools.producers)),
        "worker state": [
            len(getattr(worker_state, name)) for name in ("requests", "active_requests", "reserved_requests", "revoked")
        ],
        "worker flags": (worker_state.should_stop, worker_state.should_terminate),
        "receivers": {
            name: len(signal_.receivers or ()) for name, signal_ in vars(celery.signals).items() if hasattr(signal_, "receivers")
        },
        "patches": (
            Connection.get_transport_cls, Celery._get_backend, Celery.send_task, celery.Task.apply_async, DjangoWorkerFixup.install,
        ),
        "random": random.random,
        "modules": {key: value for name in MODULES for key, value in members(name).items()},
    }  # fmt: skip


OFFSET = time.time() - os.times().elapsed
LEAKS = []
EVERY = [0]
ALIVE = []
BEFORE = []


def first_use(app):
    """Import what the first world imports: Celery makes its default app then, and freezegun looks at modules."""
    from pytest_jobs import in_process_worker

    with in_process_worker(app) as jobs:
        jobs.run(app.tasks["leaky_shop.add"], 1, 1)
        jobs.beat(60)
    _state.get_current_app()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    """Compare before and after each test; what a first use of a library leaves for ever does not count."""
    import leaky_shop

    if not EVERY[0]:
        first_use(leaky_shop.app)
    before = BEFORE.pop() if BEFORE else fingerprint(leaky_shop.app)
    result = yield
    after = fingerprint(leaky_shop.app)
    if after != before:
        gc.collect()
        after = fingerprint(leaky_shop.app)
    BEFORE.append(after)
    EVERY[0] += 1
    if EVERY[0] % 50 == 0:
        gc.collect()
        ALIVE.append(sum(type(each).__qualname__ == "Takeover" for each in gc.get_objects()))
    changed = [name for name in before if before[name] != after[name]]
    LEAKS.extend(f"{item.name}: {name}: {difference(before[name], after[name])}" for name in changed)
    return result


def difference(before, after):
    if isinstance(before, dict):
        keys = [key for key in {**before, **after} if before.get(key, KeyError) != after.get(key, KeyError)]
        return "; ".join(f"{key} {before.get(key)!r} -> {after.get(key)!r}" for key in keys[:4])
    return f"{before!r} -> {after!r}"[:400]


def pytest_sessionfinish(session):
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    if EVERY[0]:
        path = os.path.join(os.environ["LEAKS_TO"], worker)
        if ALIVE and ALIVE[-1] > ALIVE[0] + 5:
            LEAKS.append(f"worlds that stay alive: {ALIVE}")
        with open(path, "w") as out:
            out.write("\n".join([str(EVERY[0]), *LEAKS]))
