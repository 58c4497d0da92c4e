"""The words of the explicit checks and of what a test asked for that did not happen."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from pytest_jobs.delays import bounds, check
from pytest_jobs.render import DOCS, INLINE_EVIDENCE, differs, evidence_table
from pytest_jobs.texts import short
from pytest_jobs.verdict import Comparison
from pytest_jobs.world import Evidence

__all__ = [
    "breaks", "deadlocks", "delays", "dropped", "grows", "herd", "hung", "left_out", "no_herd", "not_overlapped", "not_struck",
    "out_of_time", "outage", "shared_fixture", "unlimited", "vacuous", "varies",
]  # fmt: skip


def hung(task: str, plan: str, pool: str = "") -> str:
    """Say that a task hangs for ever; `pool` is one that ignores its time limit."""
    limit = f"the pool {pool} ignores its time limit" if pool else "no time limit applies"
    fix = "run it in the prefork pool" if pool else "set time_limit= on the task or task_time_limit in the configuration"
    return (
        f"{task} hangs for ever at {plan}: {limit}\n\n"
        "Without one its worker is never free again, and every job behind it waits.\n"
        f"Fix:  {fix}\n      {DOCS}#hang"
    )


def unlimited(task: str, pool: str) -> str:
    """Say that a pool does not keep a task's time limit."""
    kept = "only the hard one" if pool == "gevent" else "none"
    return f"{task} has a time limit, but worker_pool is {pool}, which keeps {kept}; prefork keeps both ({DOCS}#hang)"


def not_struck(task: str, schedule: str, missed: Sequence[str], points: int, calls: int, closed: str) -> str:
    """Say that a schedule named a place which the run never reached, or where no second delivery could run."""
    why = f"could not be tried: {closed}" if closed else f"{', '.join(missed)} found nothing to do"
    return (
        f"{task}: the schedule {schedule} did not happen: {why}\n\n"
        f"The run had {points} points (crash, overlap) and {calls} outgoing calls (fail, reply-lost).\n"
        f"      {DOCS}#unfired"
    )


def out_of_time(schedule: str) -> str:
    """Say in which run of a test its time limit struck."""
    run = "its undisturbed run" if schedule == "once" else f"its run under {schedule}"
    return f"The limit covers every run of a marked test; it struck in {run}. Fewer schedules: max_schedules."


def left_out(count: int, budget: int) -> str:
    """Say how many schedules the budget cut."""
    more = f"{count} more schedule{'s were' if count > 1 else ' was'}"
    return f"{more} not tried: the budget is {budget} (max_schedules)."


def vacuous(kind: str, test: str) -> str:
    """Say that a kind of schedules proved nothing."""
    return f"{kind} found nothing to do in {test}: it is vacuous, not passed"


def not_overlapped(reasons: Sequence[str]) -> str:
    """Say where overlaps were not tried, and why, the most frequent reason first."""
    places = "one point" if len(reasons) == 1 else f"{len(reasons)} points"
    why = ", ".join(reason for reason, _ in Counter(reasons).most_common())
    return f"overlap was not tried at {places} inside an open transaction: {why}"


def shared_fixture(marked: bool) -> str:
    """Say what to do about Hypothesis's check of function-scoped fixtures, when it is about `jobs`."""
    allow = "@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])"
    if marked:
        return f"pytest-jobs gives each example of a marked test a fresh world: leave jobs out of the parameters, or allow it with {allow}"
    return f"pytest-jobs opens jobs once for all examples: let each begin anew in `with jobs.fresh():`, and allow that with {allow}"


def outage(what: str) -> str:
    """Say what an injected outage is."""
    return f"injected by jobs.outage({what!r}): the server cannot be reached"


def dropped(task: str, timeline: Sequence[str]) -> str:
    """Say that Celery dropped a job because its retry could not be published."""
    return "\n".join(
        (
            f"{short(task)} is lost: its retry could not be published",
            "",
            *(f" {line}" for line in timeline),
            "",
            "self.retry() publishes a new message. When the broker stays out of reach for all tries, Celery rejects the old",
            "message and drops the job; acknowledged late or early makes no difference.",
            "Fix:     self.retry(retry_policy={'max_retries': …}), task_publish_retry_policy, or a sweep that finds such jobs",
            f"         {DOCS}#lost",
        )
    )


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


def grows(task: str, runs: int, places: Sequence[tuple[str, int]]) -> str:
    """Show which lines keep more from run to run."""
    whole = sum(size for _, size in places)
    shown = [f"  {place:40} {size / runs:10,.0f} bytes a run" for place, size in places[:5]]
    more = [f"  and {len(places) - 5} more lines"] if len(places) > 5 else []
    return "\n".join(
        (
            f"{task} keeps {whole / runs:,.0f} bytes more from run to run, in {runs} runs",
            "",
            *shown,
            *more,
            "",
            "A worker lives for days: what a run adds to a module, a class or a cache is never freed.",
            f"Fix:  {DOCS}#memory",
        )
    )


def herd(task: str, retry: int, most: int, count: int, at: Sequence[tuple[int, int]]) -> str:
    """Show when the jobs that failed at one instant came back."""
    shown = [f"  {_clock(second)}  {number:4}  {'#' * max(1, round(40 * number / most))}" for second, number in at[:10]]
    more = [f"  and {len(at) - 10} more seconds"] if len(at) > 10 else []
    return "\n".join(
        (
            f"{task} comes back as a herd: {most} of {count} jobs retry in one second",
            "",
            f"They failed at one instant. Retry {retry} of each ran at:",
            *shown,
            *more,
            "",
            "Whatever was down is hit by all of them at once, again and again.",
            f"Fix:  retry_backoff with retry_jitter, or a random countdown\n      {DOCS}#herd",
        )
    )


def no_herd(task: str, jobs: int) -> str:
    """Say that nothing failed, so nothing could come back."""
    return (
        f"{task} was never retried in {jobs} jobs, so nothing is known of how they come back; "
        f"let it fail first, with jobs.fail for example\n      {DOCS}#herd"
    )


def breaks(task: str, threads: int, compared: Comparison, number: int, rounds: int) -> str:
    """Show what jobs in threads leave otherwise than the same jobs one after the other."""
    told = differs(f"{short(task)} breaks in {threads} threads: ", compared, ("one by one", "in threads"))
    last = (
        f"Found in interleaving {number} of {rounds}, the same in every run: the threads change between two lines of\n"
        "project code. They share modules, classes and objects; what one sets, another one reads.\n"
        f"Fix:     {DOCS}#threads"
    )
    return "\n\n".join((*told, last))


def deadlocks(task: str, threads: int, places: Sequence[str]) -> str:
    """Say where the threads wait for each other."""
    lines = [f"  {place}  {places.count(place)} thread{'' if places.count(place) == 1 else 's'}" for place in dict.fromkeys(places)]
    return "\n".join(
        (f"{short(task)} comes to no end in {threads} threads: they wait for each other", "", *lines, "", f"Fix:     {DOCS}#threads")
    )


def varies(task: str, compared: Comparison) -> str:
    """Say that the jobs one after the other do not leave the same twice."""
    told = differs(f"two runs of {short(task)} differ: ", compared, ("first run", "second run"), ", so nothing was compared")
    remedy = (
        "The jobs ran one after the other, twice, before any thread. Seed random values, and let jobs.watch see what is\n"
        f"kept in memory, so that it can be put back.\nFix:     {DOCS}#irreproducible"
    )
    return "\n\n".join((*told, remedy))


def _clock(second: int) -> str:
    return f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
