"""What is told when jobs never come to rest."""

from typing import TYPE_CHECKING

from pytest_jobs.errors import RunawayJobs
from pytest_jobs.ledger import Entry
from pytest_jobs.render import runaway as words
from pytest_jobs.timeline import lines

if TYPE_CHECKING:
    from pytest_jobs.hosting import Hosting

__all__ = ["MOST_KILLS", "is_poison", "runaway", "why_never"]

MOST_KILLS = 100
DEATHS = ("killed", "worker lost", "timed out")


def runaway(worker: "Hosting", reason: str, job_id: str | None) -> RunawayJobs:
    """Make the error that shows the loop which keeps jobs going."""
    waiting = [entry for entry in worker.ledger.entries.values() if entry.copies and entry.state is None]
    entry = worker.ledger.entries.get(job_id or "")
    name = entry.name if entry is not None else (waiting[0].name if waiting else "?")
    scheduled = [_scheduled_line(entry) for entry in waiting[:5]]
    return RunawayJobs(words(reason, name, len(waiting), lines(worker, last=6), scheduled))


def _scheduled_line(entry: Entry) -> str:
    etas = [copy.envelope.eta for copy in entry.copies.values() if copy.envelope.eta is not None]
    when = f" due {min(etas):%Y-%m-%d %H:%M:%S}" if etas else " due now"
    returned = entry.deliveries - len(entry.attempts)
    often = f", came back {returned:,} times while it waited: the visibility timeout is shorter" if returned > 100 else ""
    return f"{entry.name}{when}, after {len(entry.attempts)} attempts{often}"


def why_never(worker: "Hosting", job: str) -> str:
    """Say why a result that is waited for will never come."""
    entry = worker.ledger.entries.get(job)
    if entry is None:
        return f"a result was waited for, but no job {job} was ever published here: it would wait for ever"
    state = worker.ledger.state(entry, worker.clock.now)
    return f"the result of {entry.name} was waited for, but the job is {state} and nothing is left to run"


def is_poison(entry: Entry | None) -> bool:
    """Whether a job's last attempts all killed their worker, and nothing counts them."""
    if entry is None or len(entry.attempts) < MOST_KILLS or entry.attempts[-1].outcome not in DEATHS:
        return False
    last = entry.attempts[-MOST_KILLS:]
    return bool(entry.copies) and all(each.outcome in DEATHS and each.retries == last[0].retries for each in last)
