"""The words of the explicit checks and of what a test asked for that did not happen."""

from collections.abc import Sequence
from typing import Literal

from pytest_jobs.delays import bounds, check
from pytest_jobs.render import DOCS, INLINE_EVIDENCE, evidence_table, short
from pytest_jobs.world import Evidence

__all__ = ["delays", "hung", "not_struck", "outage"]


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


def delays(task: str, expected: Sequence[float], actual: Sequence[float], jitter: float | Literal["full"] = 0.0) -> str:
    """Tell how a job's delays differ from the schedule."""
    right = check(actual, expected, jitter)
    wrong = right.index(False)
    name = short(task)
    if len(actual) != len(expected):
        retries = f"{len(expected)} retr{'y' if len(expected) == 1 else 'ies'}"
        first = f"{name} does not wait as expected: {retries} expected, {len(actual)} made"
    else:
        told = f"delay {wrong + 1} is {_seconds(actual[wrong])}, not {_seconds(expected[wrong])}"
        first = f"{name} does not wait as expected: {told}"
    allowed = bounds(expected, jitter)
    lines = []
    for number, good in enumerate(right):
        plan = _bound(expected[number], allowed[number]) if number < len(expected) else ""
        made = _seconds(actual[number]) if number < len(actual) else ""
        note = "" if good else "missing" if not made else "one too many" if not plan else "differs"
        lines.append(Evidence(f"delay {number + 1}", plan, made, note))
    table = evidence_table(lines[:INLINE_EVIDENCE], ("expected", "actual"))
    table += [f" … and {len(lines) - INLINE_EVIDENCE:,} more delays"] if len(lines) > INLINE_EVIDENCE else []
    if jitter == "full":
        table.append(" jitter: full (each between 0 and the expected delay)")
    elif jitter:
        table.append(f" jitter: each within ± {jitter * 100:g} %")
    return "\n".join([first, "", *table, "", f"Fix:     {DOCS}#delays"])


def _seconds(value: float) -> str:
    return f"{value:,.6f}".rstrip("0").rstrip(".") + " s"


def _bound(expected: float, limits: tuple[float, float]) -> str:
    low, high = limits
    if high - low < 1e-9:
        return _seconds(expected)
    return f"{_seconds(low)[:-2]} to {_seconds(high)}"
