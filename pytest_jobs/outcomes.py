"""How the jobs of two runs ended → what differs between them."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from pytest_jobs.difference import Difference, capped
from pytest_jobs.tables import counted
from pytest_jobs.texts import ABSENT, brief, short
from pytest_jobs.world import Evidence, Finding, Outcome, World

__all__ = ["compare_outcomes", "tells_loss"]

LOST = re.compile(r"\blost\b")
FINAL = frozenset({"succeeded", "failed"})
Hidden = Callable[..., bool]


def compare_outcomes(once: tuple[Outcome, ...], now: World, walk: Difference, hidden: Hidden) -> Iterator[Finding]:
    """Compare how every job of the undisturbed run ended.

    Args:
        once: The undisturbed run's outcomes.
        now: The other world.
        walk: Compares values.
        hidden: Tells whether `result` or `lost` is ignored, and remembers that it hid something.
    """
    theirs: defaultdict[str, list[Outcome]] = defaultdict(list)
    for outcome in now.outcomes:
        theirs[outcome.task].append(outcome)
    mine: defaultdict[str, list[Outcome]] = defaultdict(list)
    for outcome in once:
        mine[outcome.task].append(outcome)
    for task, jobs in mine.items():
        pairs = _matched(jobs, theirs[task], walk)
        for old, new in pairs:
            yield from _job(old, new, now, walk, hidden)
        if len(pairs) < len(jobs) and not hidden("result", f"result of {short(task)}"):
            counts = counted(len(jobs), "job"), counted(len(pairs), "job")
            yield Finding("outcome", short(task), *counts, (Evidence(short(task), *counts),))


def tells_loss(sentence: str) -> bool:
    """Tell whether a sentence about what was left says that a job is lost."""
    return LOST.search(sentence) is not None


def _matched(mine: list[Outcome], theirs: list[Outcome], walk: Difference) -> list[tuple[Outcome, Outcome]]:
    """Pair jobs of one task by number, unless another one ended alike: a child published twice shifts the numbers."""
    free = {outcome.job: outcome for outcome in theirs}
    pairs: list[tuple[Outcome, Outcome]] = []
    rest = []
    for old in mine:
        if old.job in free and walk.same(_final(old)[:2], _final(free[old.job])[:2]):
            pairs.append((old, free.pop(old.job)))
        else:
            rest.append(old)
    ends: defaultdict[Any, list[Outcome]] = defaultdict(list)
    for new in reversed(free.values()):
        ends[walk.now.of(_final(new)[:2])].append(new)
    unlike = []
    for old in rest:
        if alike := ends.get(walk.once.of(_final(old)[:2])):
            new = alike.pop()
            pairs.append((old, free.pop(new.job)))
        else:
            unlike.append(old)
    left = list(free.values())
    return pairs + list(zip(unlike, left, strict=False))


def _final(outcome: Outcome) -> tuple[str, Any, int]:
    """Return how a job's first outcome that was stored looks: its kind, its value, the attempt's number."""
    for number, (kind, value) in enumerate(outcome.attempts, start=1):
        if kind in FINAL:
            return kind, value, number
    return outcome.state, ABSENT, len(outcome.attempts)


def _job(old: Outcome, new: Outcome, now: World, walk: Difference, hidden: Hidden) -> Iterator[Finding]:
    task = short(old.task)
    name = task if old.job == 1 else f"{task} (job {old.job})"
    kind, value, _ = _final(old)
    if new.state == "lost" and old.state != "lost":
        if not hidden("lost"):
            reason = next((each for each in now.left if tells_loss(each) and task in each), "")
            reason = reason.partition("lost: ")[2] or "it left its queue without an outcome"
            yield Finding("lost", "lost", "", reason, (Evidence(name, old.state, "lost"),))
        return
    if new.died_of and old.state != "failed":
        return
    first_kind, first_value, first = _final(new)
    finals = [(first, first_kind, first_value, "")]
    for number, (again, other) in enumerate(new.attempts[first:], start=first + 1):
        if again in FINAL:
            finals.append((number, again, other, f"attempt {number}"))
    for number, again, other, note in finals:
        if again == kind and (_same_made(value, other, walk) if number != first else walk.same(value, other)):
            continue
        if again == kind and not list(walk.lines("", value, other, 0)):
            continue
        if hidden("result", f"result of {task}"):
            return
        yield _finding(name, (kind, value), (again, other), note, walk)
        return


def _same_made(value: Any, other: Any, walk: Difference) -> bool:
    """Compare a later delivery's result: a UUID made anew for it is no difference by itself."""
    return walk.same(value, other) or walk.anonymous(value) == walk.anonymous(other)


def _finding(name: str, old: tuple[str, Any], new: tuple[str, Any], note: str, walk: Difference) -> Finding:
    if old[0] == new[0]:
        subject = f"result of {name}"
        lines = [
            Evidence(line.label, line.once, line.now, line.note or (note if not line.depth else ""), line.depth)
            for line in walk.lines(subject, old[1], new[1], 0)
        ]
        lines = lines if lines and lines[0].label == subject else [Evidence(subject, "", "", note), *lines]
        return Finding("outcome", subject, brief(old[1], 24), brief(new[1], 24), capped(lines))
    shown = [kind if value is ABSENT else f"{kind}: {_plain(value)}" for kind, value in (old, new)]
    return Finding("outcome", name, old[0], new[0], (Evidence(name, shown[0], shown[1], note),))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= 60 else brief(value, 60)
