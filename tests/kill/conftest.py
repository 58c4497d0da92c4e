"""A world in which hostile tasks are killed, and what must hold after each death."""

import asyncio
import gc
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from celery import Celery

from pytest_jobs import in_process_worker
from pytest_jobs.points import Trace
from pytest_jobs.schedules import Schedule

HOSTILE = Path(__file__).resolve().parent / "hostile"
MOST = 500


class Cemetery:
    """One world, its tasks, and what they did: `seen` is no project code."""

    def __init__(self, monkeypatch, broker="memory://localhost/"):
        self.patches = monkeypatch
        self.app = Celery("hostile", broker=broker, backend="cache+memory://", set_as_current=False)
        self.seen = []
        self.at_death = []
        self.noise = []
        self.witness = lambda: list(self.seen)
        kill = Trace.kill

        def dying(trace):
            if not trace.dead:
                self.at_death.append(self.witness())
            kill(trace)

        monkeypatch.setattr(Trace, "kill", dying)

    def task(self, function, **options):
        """Register a project function that notes in `seen` what it does."""
        sys.modules[function.__module__].seen = self.seen
        return self.app.task(shared=False, acks_late=True, **options)(function)

    @contextmanager
    def open(self, **options):
        """Open the world, and hear what nobody could raise."""
        with self.patches.context() as patches:
            patches.setattr(sys, "unraisablehook", self.noise.append)
            patches.setattr(threading, "excepthook", self.noise.append)
            before = tracers()
            gc.freeze()
            try:
                with in_process_worker(self.app, source=[str(HOSTILE)], **options) as jobs:
                    yield jobs
                gc.collect()
            finally:
                gc.unfreeze()
            assert tracers() == before
        assert self.noise == []

    def undisturbed(self, jobs, task):
        """Run a task and return what it does."""
        assert jobs.run(task).result == "done"
        whole = list(self.seen)
        self.seen.clear()
        return whole

    def check(self, job, whole):
        """Check a death: nothing ran after it, the message came again and its job was done from the start."""
        gc.collect()
        assert [attempt.outcome for attempt in job.attempts] == ["killed", "succeeded"]
        assert [attempt.redelivered for attempt in job.attempts] == [False, True]
        assert job.result == "done"
        (before,) = self.at_death
        assert self.seen == before + whole
        assert self.noise == []
        self.seen.clear()
        self.at_death.clear()

    def kill_everywhere(self, function):
        """Kill a task at each of its points, and return how many there are."""
        task = self.task(function)
        with self.open() as jobs:
            whole = self.undisturbed(jobs, task)
            for number in range(1, MOST):
                job = jobs.deliver(task, schedule=Schedule("crash", number))
                if len(job.attempts) == 1:
                    break
                self.check(job, whole)
            for pool in getattr(sys.modules[function.__module__], "shared", ()):
                pool.shutdown()
        return number - 1


def tracers():
    """Return all that looks at this process."""
    monitoring = getattr(sys, "monitoring", None)
    tools = [(monitoring.get_tool(tool), monitoring.get_events(tool)) for tool in range(6) if monitoring.get_tool(tool)] if monitoring else []
    return (
        sys.gettrace(), sys.getprofile(), threading.gettrace(), threading.Thread.start, gc.get_threshold(), tools,
        asyncio._get_running_loop(), {thread for thread in threading.enumerate() if thread.is_alive()},
        sys.exc_info(),
    )  # fmt: skip


@pytest.fixture
def cemetery(monkeypatch):
    """A world that can be opened."""
    return Cemetery(monkeypatch)
