"""Every word a user reads in a failure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

from pytest_jobs.texts import short
from pytest_jobs.verdict import Comparison
from pytest_jobs.world import Evidence, Finding

__all__ = [
    "DOCS", "INLINE_EVIDENCE", "LINE", "Failure", "Unfired", "differs", "evidence_table", "failure", "first_line",
    "irreproducible", "no_job", "runaway", "timeline_line", "unfired",
]  # fmt: skip

WIDTH = 72
CELL = 36
LABEL = 40
LINE = 100
NONE = "–"
DOCS = "https://pytest-jobs.readthedocs.io/failures"
INLINE_EVIDENCE = 40


@dataclass(frozen=True, slots=True)
class Failure:
    """Everything a failure tells.

    Attributes:
        task: The registered name of the task to blame.
        schedule: The id of the schedule that shows it.
        findings: What differs, worst first; the same finding at several schedules once each.
        ignored: The patterns that hid a difference.
        timeline: The lines of the run.
        replay: The command that runs it again.
        notes: What was not tried, a sentence each.
        also: The ids of further schedules at which the same was found.
        head: How the first line begins, empty for the marker's way.
    """

    task: str
    schedule: str
    findings: tuple[Finding, ...]
    ignored: tuple[str, ...] = ()
    timeline: tuple[str, ...] = ()
    replay: str = ""
    notes: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    head: str = ""


class Unfired(Protocol):
    """A fault, as far as its text goes.

    Attributes:
        plan: How it was armed, as it prints.
        reached_late: How often its target was reached after it was disarmed.
        hint: What may be wrong, empty when nothing is known.
    """

    plan: str
    reached_late: int
    hint: str


def failure(f: Failure) -> str:
    """Tell a failure: what differs, the evidence, the timeline, how to replay it and where to read on."""
    distinct = tuple(dict.fromkeys(f.findings))
    worst = distinct[0]
    more = len(distinct) - 1
    plain = replace(worst, subject="result") if worst.subject == f"result of {short(f.task)}" else worst
    blocks = [_first_line(f.head or f"{short(f.task)} is not idempotent at {f.schedule}: ", plain, more)]
    evidence = [line for finding in distinct for line in _evidence(finding, alone=not more)]
    shown = evidence_table(evidence[:INLINE_EVIDENCE])
    shown += [f" {sentence}" for finding in distinct if (sentence := _told(finding)) and sentence not in blocks[0]]
    if len(evidence) > INLINE_EVIDENCE:
        shown.append(f" … and {len(evidence) - INLINE_EVIDENCE:,} more lines")
    if f.ignored:
        shown.append(f" ignored: {', '.join(f.ignored)}")
    blocks.append("\n".join(shown))
    blocks.append("\n".join(f" {line}" for line in f.timeline))
    last = [f"Replay:  {f.replay}"] if f.replay else []
    last.append(f"Fix:     {DOCS}#{worst.rule}")
    if f.also:
        count = f"{len(f.also)} more schedule{'' if len(f.also) == 1 else 's'}"
        last.append(f"The same at {count}: {_listed(f.also)}")
    blocks.append("\n".join([*last, *f.notes]))
    return "\n\n".join(block for block in blocks if block)


def irreproducible(test: str, compared: Comparison, timeline: Sequence[str] = ()) -> str:
    """Tell that two undisturbed runs differ, so that no verdict is possible."""
    worst = compared.findings[0]
    told = differs(f"two undisturbed runs of {test} differ: ", compared, ("first run", "second run"), ", so nothing was compared")
    value = f"  - a value that may differ: @pytest.mark.idempotent(ignore=[{_pattern(worst)!r}])"
    remedy = [
        "The test must do the same each time before a difference can mean anything:",
        *([] if worst.rule == "test" else [value]),
        "  - random values: seed them in a fixture",
        "  - what an earlier run left behind: make it in a function-scoped fixture, fresh for each run",
    ]
    blocks = [*told, "\n".join(f" {line}" for line in timeline), "\n".join(remedy)]
    return "\n\n".join([*(block for block in blocks if block), f"Fix:     {DOCS}#irreproducible"])


def differs(head: str, compared: Comparison, columns: tuple[str, str], tail: str = "") -> list[str]:
    """Tell how two worlds differ: the first line, and the table of evidence."""
    more = len(compared.findings) - 1
    evidence = [line for finding in compared.findings for line in _evidence(finding, alone=not more)]
    table = evidence_table(evidence[:INLINE_EVIDENCE], columns)
    table += [f" … and {len(evidence) - INLINE_EVIDENCE:,} more lines"] if len(evidence) > INLINE_EVIDENCE else []
    table += [f" ignored: {', '.join(compared.ignored)}"] if compared.ignored else []
    first = _first_line(head, compared.findings[0], more, tail=tail)
    table += [f" {sentence}" for finding in compared.findings if (sentence := _told(finding)) and sentence not in first]
    return [first, "\n".join(table)]


def evidence_table(evidence: Sequence[Evidence], head: tuple[str, str] = ("once", "now")) -> list[str]:
    """Lay out evidence in two columns."""
    if not evidence:
        return []
    rows = [
        (f" {'  ' * line.depth}{_middle(line.label, LABEL)}", _cell(line.once), _cell(line.now), line)
        for line in evidence
    ]
    cells = [row for row in rows if row[3].once or row[3].now]
    label = max([len(row[0]) for row in cells], default=10) + 4
    once = max([len(head[0]), *(len(row[1]) for row in cells)]) + 4
    noted = [row for row in cells if row[3].note]
    now = max([len(head[1]), *(len(row[2]) for row in noted)]) + 4
    lines = [f"{'':{label}}{head[0]:{once}}{head[1]}"]
    for text, left, right, line in rows:
        if not (line.once or line.now):
            lines.append(f"{text}{f'      <- {line.note}' if line.note else ''}")
            continue
        note = f"<- {line.note}" if line.note else ""
        lines.append(f"{text:{label}}{left:{once}}{right:{now}}{note}".rstrip())
    return lines


def timeline_line(elapsed: timedelta, delivery: int, call: str, what: str) -> str:
    """Tell one delivery in one line.

    Args:
        elapsed: The virtual time since the run began.
        delivery: The delivery's number, 0 for what is not one.
        call: The task with its arguments.
        what: What became of it.
    """
    seconds = int(elapsed.total_seconds())
    days, rest = divmod(max(seconds, 0), 86_400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    head = f"{f'{days}d ' if days else ''}{clock}  {f'delivery {delivery}  ' if delivery else ''}"
    what = _middle(_one_line(what), 60)
    room = max(LINE - len(head) - len(what) - 2, 24)
    return f"{head}{_call(_one_line(call), room)}  {what}".rstrip()


def unfired(faults: Sequence[Unfired]) -> str:
    """Tell which faults never fired."""
    sentences = []
    for fault in faults:
        if fault.reached_late:
            times = "once" if fault.reached_late == 1 else f"{fault.reached_late} times"
            why = f"a job reached it {times}, but only after it was disarmed: run the job inside its with block"
        else:
            why = "no job reached it"
        hint = f". {fault.hint[:1].upper()}{fault.hint[1:]}".rstrip(".") if fault.hint else ""
        sentences.append(f"{fault.plan} never fired: {why}{hint}.")
    if len(sentences) > 1:
        sentences.insert(0, f"{len(sentences)} faults never fired, so the test does not test what it says:")
    return "\n".join([*sentences, f"Fix:     {DOCS}#unfired"])


def no_job(test: str) -> str:
    """Tell that a marked test ran no job."""
    return (
        f"{test} is marked idempotent, but no job ran in it: nothing was delivered twice, so nothing was proved.\n"
        "Publish a job in the test (task.delay(…) or jobs.run(task, …)), or take the marker off.\n"
        f"Fix:     {DOCS}#no-job"
    )


def runaway(reason: str, task: str, count: int, timeline: Sequence[str], scheduled: Sequence[str]) -> str:
    """Tell that jobs never come to rest.

    Args:
        reason: Which limit was met.
        task: The task that keeps going.
        count: How many jobs still wait.
        timeline: The last lines of the run.
        scheduled: A line for each of the first jobs that wait.
    """
    blocks = [f"{short(task)} does not come to rest: {reason}"]
    if timeline:
        blocks.append("\n".join(["The loop:", *(f" {line}" for line in timeline)]))
    if scheduled:
        jobs = "1 job" if count == 1 else f"{count:,} jobs"
        more = [f"  and {count - len(scheduled):,} more"] if count > len(scheduled) else []
        blocks.append("\n".join([f"Still scheduled: {jobs}", *(f"  {line}" for line in scheduled), *more]))
    blocks.append(f"Fix:     {DOCS}#runaway")
    return "\n\n".join(blocks)


def first_line(head: str, subject: str, tail: str) -> str:
    """Put what differs into the first line of a failure, which is shown alone in pytest's summary."""
    return f"{head}{_subject(subject, max(WIDTH - len(head) - len(tail), 16))}{tail}"


def _first_line(head: str, finding: Finding, more: int, tail: str = "") -> str:
    more_text = f" (+{more} more)" if more else ""
    subject, once, now = _one_line(finding.subject), _one_line(finding.once), _one_line(finding.now)
    if finding.rule == "test":
        text = _cut(f"the test fails: {now}", max(WIDTH - len(head) - len(more_text) - len(tail), 40))
        return f"{head}{text}{more_text}{tail}"
    change = f" {_cut(_count(once, now), CELL)} -> {_cut(now, CELL)}" if once else f": {now}" if now else ""
    room = WIDTH - len(head) - len(more_text) - len(tail)
    if not once and len(subject) + len(change) > room:
        change = _cut(change, max(room - len(subject), 40))
    return f"{head}{_subject(subject, max(room - len(change), 16))}{change}{more_text}{tail}"


def _count(once: str, now: str) -> str:
    """Leave out the noun that both sides share: `1 -> 2 rows`."""
    (number, _, noun), (_, _, other) = once.partition(" "), now.partition(" ")
    alike = noun and noun.removesuffix("s") == other.removesuffix("s")
    return number if alike and number.replace(",", "").isdecimal() else once


def _evidence(finding: Finding, *, alone: bool) -> tuple[Evidence, ...]:
    if finding.rule == "test":
        return ()
    if finding.evidence or (alone and not (finding.once or finding.now)):
        return finding.evidence
    return (Evidence(finding.subject, finding.once, finding.now),)


def _told(finding: Finding) -> str:
    """Return the sentence that tells a finding which no table can show; empty for others."""
    return _one_line(finding.now) if finding.rule in {"lost", "left", "test"} else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _middle(text: str, width: int) -> str:
    """Take the middle out of a text that is too long; both its ends tell more."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def _subject(text: str, width: int) -> str:
    """Shorten what differs; of an address the method and the last part of the path say most."""
    if len(text) <= width or "://" not in text:
        return _middle(text, width)
    head, _, address = text.partition("://")
    method, blank, scheme = head.rpartition(" ")
    last = address.rstrip("/").rpartition("/")[2]
    forms = (f"{method}{blank}{scheme}://…/{last}", f"{method}{blank}…/{last}")
    return next((form for form in forms if len(form) <= width), _middle(forms[1], width))


def _call(call: str, width: int) -> str:
    name, bracket, given = call.partition("(")
    if len(call) <= width or not bracket:
        return _middle(call, width)
    room = max(width - len(name) - 3, 8)
    return f"{name}({given[: -1 if given.endswith(')') else None][:room]}…)"


def _cell(text: str) -> str:
    return _middle(_one_line(text), CELL) if text else NONE


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(names[:most])
    return f"{shown}, …" if len(names) > most else shown


def _pattern(finding: Finding) -> str:
    if finding.rule == "outcome":
        return "result"
    return "http:" + finding.subject if "://" in finding.subject and ":" not in finding.subject[:5] else finding.subject
