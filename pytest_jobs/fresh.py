"""A fresh world inside a world: everything is put back as it was, without setting fixtures up again."""

import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from pytest_jobs import render
from pytest_jobs.errors import JobsWarning, UsageError
from pytest_jobs.ledger import Ledger
from pytest_jobs.probes.base import Restorable
from pytest_jobs.route import Route
from pytest_jobs.schedules import ONCE
from pytest_jobs.timeline import lines

if TYPE_CHECKING:
    from pytest_jobs.session import Session

__all__ = ["Fresh", "forgive", "fresh"]
__tracebackhide__ = True

CONTAINERS = (list, dict, set, deque)


class Fresh:
    """What `jobs.fresh()` gives.

    Attributes:
        left: What could not be put back, one sentence each; empty until the block has ended.
    """

    def __init__(self) -> None:
        self.left: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Fresh: {len(self.left)} left>" if self.left else "<Fresh>"


@contextmanager
def fresh(session: "Session") -> Iterator[Fresh]:
    """Let a block begin with no jobs, and put everything back afterwards.

    Raises:
        UsageError: Inside a task, or when jobs are due.
        AssertionError: When a fault that was armed in the block never fired.
    """
    _check(session)
    told = Fresh()
    if session.replaying:
        yield told
        return
    probes = [probe for probe in (*session.active.probes, *session.watched) if isinstance(probe, Restorable)]
    known = set(map(id, session.active.probes))
    with session.recorder.paused():
        for probe in probes:
            probe.keep()
    try:
        with _set_aside(session):
            try:
                yield told
            except Exception as error:
                _tell(session, error)
                raise
    finally:
        late = [probe for probe in session.active.probes if id(probe) not in known]
        told.left = _put_back(session, [*probes, *late])
    for sentence in told.left:
        if sentence not in session.told:
            session.told.add(sentence)
            warnings.warn(JobsWarning(f"jobs.fresh could not put everything back: {sentence}"), stacklevel=3)


def forgive(session: "Session") -> None:
    """Demand of no fault that was armed in this block that it fires."""
    session.faults.all = []


def _put_back(session: "Session", probes: Sequence[object]) -> tuple[str, ...]:
    """Let the probes put back what they see, also those of libraries that were loaded in the block."""
    left: list[str] = []
    with session.recorder.paused():
        for probe in probes:
            left += probe.restore() if isinstance(probe, Restorable) else ()
        for probe in session.watched:
            left += getattr(probe, "unlike", tuple)()
    return tuple(dict.fromkeys(left))


def _check(session: "Session") -> None:
    worker = session.worker
    if worker.current is not None:
        raise UsageError(f"jobs.fresh was entered inside the task {worker.current.entry.name}; only test code may do that")
    due = list(session.jobs("pending", "scheduled", "retrying"))
    if due:
        more = f" and {len(due) - 5} more" if len(due) > 5 else ""
        raise UsageError(
            f"jobs.fresh was entered while jobs were due: {', '.join(map(repr, due[:5]))}{more}; "
            "run them first, with jobs.settle()"
        )


@contextmanager
def _set_aside(session: "Session") -> Iterator[None]:
    """Set the books, the broker, the clock and the faults aside, and take them up again."""
    # Imported here: a pytest start must not pay for Celery.
    from pytest_jobs.queues.celery_fresh import Apart

    worker = session.worker
    with ExitStack() as stack:
        session.apart = session.apart or Apart(session.queue)
        stack.enter_context(session.apart())
        stack.enter_context(_emptied(worker))
        worker.ledger = Ledger(session.queue.decode)
        worker.route = Route(ONCE, False, worker.route.signature)
        worker.began = session.clock.now
        stack.enter_context(_same_faults(session.faults))
        stack.enter_context(_same_probes(session))
        # Left first: what a key has left to live is written anew by the clock.
        stack.enter_context(session.clock.apart())
        yield


@contextmanager
def _emptied(owner: Any) -> Iterator[None]:
    """Give an object empty containers for a while, and all its attributes back afterwards."""
    kept = dict(vars(owner))
    for name, value in kept.items():
        if type(value) in CONTAINERS:
            setattr(owner, name, type(value)())
    try:
        yield
    finally:
        vars(owner).update(kept)


@contextmanager
def _same_faults(faults: Any) -> Iterator[None]:
    """Disarm what is armed meanwhile; what was armed before can strike as often again."""
    kept, armed = dict(vars(faults)), [(fault, fault.fired) for fault in faults.all]
    for name, value in kept.items():
        if type(value) in CONTAINERS:
            setattr(faults, name, _copied(value))
    try:
        with ExitStack() as stack:
            faults._stack = stack
            yield
        unfired = [fault for fault in faults.all[len(armed) :] if not fault.fired]
        if unfired:
            raise AssertionError(render.unfired(unfired))
    finally:
        vars(faults).update(kept)
        for fault, fired in armed:
            if fault.times is not None:
                fault.times += fault.fired - fired


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: list(each) if isinstance(each, list) else each for key, each in value.items()}
    return type(value)(value)


@contextmanager
def _same_probes(session: "Session") -> Iterator[None]:
    """Watch and ignore no longer what is watched and ignored meanwhile."""
    watched, cheap, ignore, outer = list(session.watched), list(session._cheap), list(session.ignore), session._stack
    try:
        with ExitStack() as stack:
            session._stack = stack
            yield
    finally:
        session._stack = outer
        session.watched[:], session._cheap[:], session.ignore[:] = watched, cheap, ignore


def _tell(session: "Session", error: Exception) -> None:
    """Add the block's timeline to an error: once the block is left, nobody else can tell it."""
    if type(error).__module__.partition(".")[0] == "hypothesis" or getattr(error, "jobs_told", False):
        return
    told = lines(session.worker)
    if told:
        error.add_note("\n".join(["jobs timeline:", *(f"  {line}" for line in told)]))
