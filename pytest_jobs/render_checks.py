"""The words of the explicit checks and of what a test asked for that did not happen."""

from collections.abc import Sequence

from pytest_jobs.render import DOCS

__all__ = ["hung", "not_struck", "outage"]


def hung(task: str, plan: str) -> str:
    """Say that a task hangs for ever."""
    return (
        f"{task} hangs for ever at {plan}: no time limit applies\n\n"
        "Without one its worker is never free again, and every job behind it waits.\n"
        f"Fix:  set time_limit= on the task or task_time_limit in the configuration\n      {DOCS}#hang"
    )


def not_struck(task: str, schedule: str, missed: Sequence[str], points: int, calls: int) -> str:
    """Say that a schedule named a place which the run never reached."""
    return (
        f"{task}: the schedule {schedule} did not happen: {', '.join(missed)} found nothing to do\n\n"
        f"The run had {points} points (crash, overlap) and {calls} outgoing calls (fail, reply-lost).\n"
        f"      {DOCS}#unfired"
    )


def outage(what: str) -> str:
    """Say what an injected outage is."""
    return f"injected by jobs.outage({what!r}): the server cannot be reached"
