"""What many runs of one task show: memory that grows, and retries that come back as one herd."""

import gc
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from pytest_jobs import render_checks
from pytest_jobs.errors import UsageError
from pytest_jobs.source import Source

if TYPE_CHECKING:
    from pytest_jobs.session import Session

__all__ = ["check_count", "herd", "memory"]
__tracebackhide__ = True

FRAMES = 16
WARM = 20
OURS = ("pytest_jobs", "celery", "kombu")
STEADY = 0.3  # of the growth must fall into each half of the runs


def memory(session: "Session", task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], runs: Any) -> None:
    """Run a task often and see which lines of project code keep more from run to run."""
    __tracebackhide__ = True
    check_count("jobs.check_memory", "runs", runs, 20)
    source = session.source()
    found = session.queue.resolve(task)
    body = getattr(getattr(found, "run", None), "__code__", None)
    if body is not None:
        source.include(body.co_filename)
    _repeat(session, task, args, kwargs, WARM)
    with _traced():
        first = _kept(source)
        _repeat(session, task, args, kwargs, runs // 2)
        middle = _kept(source)
        name = _repeat(session, task, args, kwargs, runs - runs // 2)
        last = _kept(source)
    grown = []
    for place, size in last.items():
        whole = size - first.get(place, 0)
        halves = (middle.get(place, 0) - first.get(place, 0), size - middle.get(place, 0))
        if whole >= 8 * runs and min(halves) >= STEADY * whole:
            grown.append((whole, place))
    if grown:
        grown.sort(reverse=True)
        raise AssertionError(render_checks.grows(name, runs, [(source.label(*place), size) for size, place in grown]))


@contextmanager
def _traced() -> Iterator[None]:
    """Trace allocations; what lives already is not looked at again by the collector."""
    running = tracemalloc.is_tracing()
    if not running:
        tracemalloc.start(FRAMES)
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        if not running:
            tracemalloc.stop()


def _repeat(session: "Session", task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], runs: int) -> str:
    """Run a task so often, and forget its effects, results and errors: what the plugin keeps is not the task's."""
    name = ""
    ledger = session.worker.ledger
    known = frozenset(ledger.entries)
    with session.recorder.paused():
        for _ in range(runs):
            name = session.run(task, args, kwargs).name
            ledger.forget(known)
    gc.collect()
    return name


def _kept(source: Source) -> dict[tuple[str, int], int]:
    """Return the bytes that live now, by the line of project code whose call made them."""
    kept: Counter[tuple[str, int]] = Counter()
    own = cache(lambda filename: any(f"/{name}/" in filename for name in OURS))
    for trace in tracemalloc.take_snapshot().traces:
        # Innermost last; what the worker itself allocates beneath a line of the test is not the task's.
        for frame in reversed(trace.traceback):
            if source.is_project(frame.filename):
                kept[frame.filename, frame.lineno] += trace.size
                break
            if own(frame.filename):
                break
    return dict(kept)


def herd(session: "Session", task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], jobs: Any) -> None:
    """Publish many jobs that fail at one instant, and see when they come back."""
    __tracebackhide__ = True
    check_count("jobs.check_herd", "jobs", jobs, 2)
    began = session.clock.now
    ids = [session.queue.publish(task, args, kwargs) for _ in range(jobs)]
    session.worker.settle(session.settle_limit)
    made = [session.job(job) for job in ids]
    rounds: dict[int, list[datetime]] = {}
    for job in made:
        for attempt in job.attempts:
            if attempt.retries:
                rounds.setdefault(attempt.retries, []).append(attempt.started_at)
    if not rounds:
        raise AssertionError(render_checks.no_herd(made[0].name, jobs))
    for number, instants in sorted(rounds.items()):
        at = Counter(int((instant - began).total_seconds()) for instant in instants)
        most = max(at.values())
        if len(instants) > 1 and most > max(len(instants) // 2, 1):
            raise AssertionError(render_checks.herd(made[0].name, number, most, len(instants), sorted(at.items())))


def check_count(caller: str, name: str, given: Any, least: int) -> None:
    """Refuse a number that is none, or too small."""
    if isinstance(given, bool) or not isinstance(given, int) or given < least:
        raise UsageError(f"{caller} was given {name}={given!r}; allowed is a whole number from {least}")
