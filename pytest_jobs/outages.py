"""Servers out of reach, and workers that are stopped."""

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_jobs.errors import UsageError
from pytest_jobs.faults import Fault
from pytest_jobs.render_checks import outage

if TYPE_CHECKING:
    from pytest_jobs.session import Session

__all__ = ["arm", "shutdown"]
__tracebackhide__ = True

SERVERS = MappingProxyType({"broker": frozenset({"connect", "publish", "consume", "ack"}), "results": frozenset({"store"})})
SHUTDOWNS = ("warm", "soft", "cold", "kill")


def arm(session: "Session", what: Any, times: Any) -> Fault:
    """Let the next operations of a server fail."""
    if what not in SERVERS:
        raise UsageError(f"jobs.outage was given {what!r}; allowed are {' and '.join(map(repr, SERVERS))}")
    if isinstance(times, bool) or not isinstance(times, int) or times < 1:
        raise UsageError(f"jobs.outage was given times={times!r}; allowed is a whole number from 1")
    plan = f"jobs.outage({what!r}{f', times={times}' if times != 1 else ''})"
    fault = Fault(plan, "outage", times)
    before = session.queue.outage

    def struck(operation: str) -> None:
        before(operation)
        if operation in SERVERS[what] and fault.strikes():
            worker = session.worker
            if worker.current is not None:
                worker.current.fault = plan
            if operation == "consume":
                worker.restart(kill=True)
                return
            # A connection that failed is gone, with all that was unacknowledged on it.
            worker.stopping = "kill" if operation == "ack" else worker.stopping
            raise session.queue.unreachable(what, outage(what))

    session.queue.outage = struck
    session.faults.all.append(fault)
    return fault


def shutdown(session: "Session", how: Any) -> None:
    """Stop the worker, now or at the end of the job that runs."""
    if how not in SHUTDOWNS:
        raise UsageError(f"jobs.shutdown was given {how!r}; allowed are {', '.join(SHUTDOWNS)}")
    worker = session.worker
    if worker.crew is not None:
        raise UsageError("jobs.shutdown was called while jobs.settle(workers=…) runs; shutdowns are for one worker")
    window = session.queue.soft_window(worker.current.entry.name if worker.current is not None else "") if how == "soft" else 0.0
    if window is None:
        raise UsageError("jobs.shutdown was given 'soft', which Celery knows from 5.5 on; allowed are warm, cold, kill")
    if worker.current is None:
        worker.restart(kill=how == "kill")
    elif how == "kill":
        worker.current.kill("jobs.shutdown('kill')")
    elif how == "cold":
        worker.current.stop()
    else:
        worker.stopping = how
        if how == "soft":
            worker.current.stops_at = worker.clock.timestamp + window
