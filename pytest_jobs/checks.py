"""The explicit checks of a test: `jobs.check_…`."""

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_jobs import expected as expecting
from pytest_jobs import render, render_checks, render_effects
from pytest_jobs.delays import check
from pytest_jobs.errors import JobsWarning, UsageError
from pytest_jobs.ignore import Ignore
from pytest_jobs.records import Job
from pytest_jobs.timeline import lines
from pytest_jobs.verdict import compare

if TYPE_CHECKING:
    from pytest_jobs.session import Session

__all__ = ["delays", "effects", "idempotent"]
__tracebackhide__ = True


def delays(job: Job, expected: Sequence[float], jitter: Any) -> None:
    """Compare a job's delays with a schedule."""
    __tracebackhide__ = True
    _is_job(job, "check_delays")
    right = check(job.delays, expected, jitter)
    if not all(right):
        raise AssertionError(render_checks.delays(job.name, tuple(expected), tuple(job.delays), jitter))


def effects(session: "Session", job: Job, expected: Sequence[expecting.Wanted]) -> None:
    """Compare what a job did until now, in all its attempts, with what a test expects."""
    __tracebackhide__ = True
    _is_job(job, "check_effects")
    wanted = expecting.wanted_of(expected)
    if job.id in session.worker.ledger.entries:
        job = session.job(job.id)
    if not job.attempts:
        raise AssertionError(f"{job.name} never ran ({job.state}), so it had no effects")
    done = expecting.done_by(job.attempts)
    pairs = expecting.align(wanted, done)
    if not expecting.is_right(pairs):
        raise AssertionError(render_effects.effects(job.name, pairs, done, len(job.attempts)))


def _is_job(job: Any, call: str) -> None:
    if not isinstance(job, Job):
        raise UsageError(f"jobs.{call} was given {job!r}; allowed is a job, as jobs.run returns it")


def idempotent(session: "Session", task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Job:
    """Run a task, deliver its message again, compare the worlds before and after."""
    __tracebackhide__ = True
    job = session.run(task, args, kwargs)
    once = session.whole_world()
    entry = session.worker.ledger.entries[job.id]
    if not entry.attempts:
        raise AssertionError(f"{job.name} never ran ({job.state}), so nothing was compared")
    session.worker.redeliver(entry.last)
    session.worker.settle(session.settle_limit)
    now = session.world(frozenset(once.state))
    compared = compare(once, now, Ignore(session.ignore))
    again = f"jobs.check_idempotent({job.name})"
    for blind in compared.unreadable:
        warnings.warn(JobsWarning(f"in {again}, {blind.probe} was not compared: {blind.reason}"), stacklevel=3)
    if compared.findings:
        told = render.Failure(job.name, "twice", compared.findings, compared.ignored, lines(session.worker), again)
        raise AssertionError(render.failure(told))
    early = [each for each in now.early if Ignore(session.ignore).find(f"publish:{each.task}") is None]
    if early:
        raise AssertionError(render_effects.early(early))
    return session.job(job.id)
