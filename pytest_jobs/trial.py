"""One schedule in the world as it is: `jobs.deliver`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_jobs.errors import UsageError
from pytest_jobs.injected import injected_failures
from pytest_jobs.records import Job
from pytest_jobs.render_checks import not_struck
from pytest_jobs.route import Route
from pytest_jobs.schedules import AT_POINTS, Schedule, parse

if TYPE_CHECKING:
    from pytest_jobs.session import Session

__all__ = ["deliver", "run_again"]
__tracebackhide__ = True

# Long enough for a lock of a failed attempt to have expired, as when a person runs the job again.
RERUN_AFTER = 3600.0


def deliver(
    session: "Session", task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], given: Any, retries: Any,
    redelivered: bool,
) -> Job:  # fmt: skip
    """Publish one job and bring it to rest under a schedule.

    Raises:
        UsageError: On an unknown schedule, a bad retry number, or inside a run that has a schedule of its own.
        AssertionError: When the schedule, given as text, found nothing to do.
    """
    __tracebackhide__ = True
    schedule = given if isinstance(given, Schedule) else parse(given)
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise UsageError(f"jobs.deliver was given retries={retries!r}; allowed is a whole number from 0")
    worker = session.worker
    if worker.current is not None:
        raise UsageError(f"jobs.deliver was called inside the task {worker.current.entry.name}; only test code may do that")
    outer, began = worker.route, len(worker.deliveries)
    if schedule.has(*AT_POINTS):
        worker.source = worker.source or session.source()
    worker.route = route = Route(schedule, False, outer.signature)
    try:
        job_id = session.queue.publish(task, args, kwargs, retries=retries)
        if redelivered:
            worker.marked.add(job_id)
        worker.settle(session.settle_limit)
        session.come_late(schedule, began)
    finally:
        worker.route = outer
    job = session.job(job_id)
    if (route.untouched or route.closed) and not isinstance(given, Schedule):
        missed = [str(step) for step in route.untouched]
        raise AssertionError(not_struck(job.name, str(schedule), missed, route.reached, route.calls, route.closed))
    return job


def run_again(session: "Session") -> tuple[str, ...]:
    """Run once more, as people do, the jobs that gave up with an injected error; return their ids."""
    worker = session.worker
    gave_up = injected_failures(worker.ledger)
    for job in gave_up:
        worker.advance(RERUN_AFTER)
        worker.redeliver(worker.ledger.entries[job].last)
    if gave_up:
        worker.settle(session.settle_limit)
    return gave_up
