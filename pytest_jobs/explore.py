"""Run a test again under one schedule after another, each time in a fresh world; then judge."""

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from pytest_jobs import render, render_effects
from pytest_jobs.ignore import Ignore
from pytest_jobs.kinds import KINDS
from pytest_jobs.planning import deeper, in_turn, recalled
from pytest_jobs.policies import retry_notes
from pytest_jobs.retries import is_hasty
from pytest_jobs.route import WAITS
from pytest_jobs.runs import VOLATILE, Exploration, Run
from pytest_jobs.schedules import ONCE, Schedule
from pytest_jobs.verdict import Comparison, compare
from pytest_jobs.world import Early, Finding, World

__all__ = ["explore", "judge"]

PLAIN_KINDS = frozenset({"twice", "late"})
NO_REST = "does not come to rest"


def explore(
    kinds: Sequence[str],
    run: Callable[[Schedule, frozenset[str], bool], Run],
    limit: int,
    progress: Callable[[int, int], None],
    only: Schedule | None = None,
    remembered: Sequence[str] = (),
) -> Exploration:
    """Run a test undisturbed, then under each schedule.

    A call whose failure is retried also fails in every retry, once a run. Where a run recovers by doing something that the undisturbed one never did, that recovery is disturbed as well, unless
    the run already shows what is wrong.

    Args:
        kinds: The kinds of schedules.
        run: Runs the test in a fresh world, reads these subjects of it whether they were written or not, and notes
            its points or not.
        limit: The most schedules.
        progress: Told after each run how many of how many are done.
        only: The one schedule to run instead of the kinds.
        remembered: The ids that failed the last time, tried first, also of chained schedules.
    """
    found = Exploration(all_kinds=only is None and {*kinds} == {*KINDS})
    first = run(ONCE, frozenset(), not PLAIN_KINDS.issuperset(kinds))
    if first.outcome != "passed" or first.world is None:
        found.spoiled = first.message
        return found
    found.first = first
    wanted = frozenset(first.world.state)
    planned_ones = [only] if only is not None else in_turn(kinds, first)
    recall = recalled(remembered, kinds) if only is None else []
    tried_in_vain: list[Schedule] = []
    if "overlap" in kinds and only is None:
        found.closed = [point.closed for point in first.points if point.closed]
    queue = [*recall, *(schedule for schedule in planned_ones if schedule not in recall)]
    usual = _shapes(first)
    persistent: set[Hashable] = set()
    waits = False
    for number, schedule in enumerate(queue, start=1):
        if number > limit:
            break
        asked = schedule.alongside if waits else schedule
        one = run(asked, wanted, False)
        if waits and one.closed:
            asked = schedule
            one = run(asked, wanted, False)
        if one.world is not None and any(is_hasty(outcome) for outcome in one.world.outcomes):
            # Waits that the task draws at random may all have been nothing, but hardly twice.
            one = run(asked, wanted, False)
        if one.closed == WAITS and not waits:
            # Finding that out takes time: the next ones are run beside the first from the beginning.
            waits, asked = True, schedule.alongside
            one = run(asked, wanted, False)
        one = replace(one, schedule=schedule)
        if one.closed:
            found.closed.append(one.closed)
            tried_in_vain.append(schedule)
            progress(number, min(len(queue), limit))
            continue
        if one.struck or schedule in planned_ones:
            found.runs.append(one)
        more: list[Schedule] = []
        deepens = only is None and not schedule.on and one.struck and schedule.then is None and not _shapes(one) <= usual
        if deepens and not _fails(first.world, one):
            more += deeper(schedule, kinds, run(asked, wanted, True))
        if only is None and str(schedule) == f"fail@{schedule.at}" and one.retried and one.retried not in persistent:
            persistent.add(one.retried)
            more.append(replace(schedule, on=True))
        queue += [each for each in more if each not in queue]
        progress(number, min(len(queue), limit))
    found.left_out = max(len(queue) - limit, 0)
    place = {schedule: number for number, schedule in enumerate(dict.fromkeys((*planned_ones, *queue)))}
    found.runs.sort(key=lambda one: (len(one.schedule.steps), place[one.schedule]))
    tried = {one.schedule.kind for one in found.runs if one.struck} | {schedule.kind for schedule in queue[limit:]}
    missed = [one.schedule for one in found.runs if not one.struck] + tried_in_vain * (only is not None)
    found.vacuous = [kind for kind in kinds if kind not in tried] if only is None else [str(each) for each in missed]
    found.missed = [str(each) for each in missed if each.kind in tried]
    return found


def _shapes(run: Run) -> frozenset[str]:
    """Name what a run did, without the numbers and keys that differ from run to run."""
    labels = [effect.label for effect in run.world.effects] if run.world is not None else []
    return frozenset(VOLATILE.sub("#", label) for label in labels if not label.startswith("retry "))


def _fails(undisturbed: World, one: Run) -> bool:
    return one.outcome != "passed" or (
        one.world is not None and bool(compare(undisturbed, one.world, Ignore(one.ignore)).findings)
    )


def _without(own: World, subjects: frozenset[str]) -> World:
    """Leave out what the item's own run was only asked for, because of runs other than the one that it is compared with."""
    return replace(own, state={name: value for name, value in own.state.items() if name not in subjects})


@dataclass(frozen=True, slots=True)
class Judgement:
    """What there is to say about an explored test.

    Attributes:
        failure: The failure's text, empty when there is none.
        unused: The ignore patterns that matched nothing.
        failing: The ids of the schedules that failed.
        unseen: What no probe could read, a sentence each.
        retries: What is odd about the retries of its tasks, a sentence each.
    """

    failure: str
    unused: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    retries: tuple[str, ...] = ()


def judge(
    name: str, found: Exploration, own: World, ignore: Ignore, replay: Callable[[Schedule], str], notes: Sequence[str]
) -> Judgement:
    """Compare the world after every schedule with the undisturbed one.

    Args:
        name: The test's name.
        found: What exploring brought.
        own: The world after the item's own, undisturbed run.
        ignore: Which differences are fine.
        replay: Makes the command that replays a schedule.
        notes: What was not tried.
    """
    if found.spoiled:
        failed = Comparison((Finding("test", "the test", "passes", found.spoiled),))
        return Judgement(render.irreproducible(name, failed))
    assert found.first is not None
    assert found.first.world is not None
    asked = found.subjects.difference(found.first.world.state)
    twin = compare(found.first.world, _without(own, asked), ignore)
    matched, unreadable = twin.matched, dict.fromkeys(twin.unreadable)
    if twin.findings:
        return Judgement(render.irreproducible(name, twin), ())
    failing: list[tuple[Run, tuple[Finding, ...], tuple[str, ...]]] = []
    for run in found.runs:
        findings: tuple[Finding, ...] = ()
        ignored: tuple[str, ...] = ()
        if run.world is not None and (run.outcome == "passed" or _complete(own, run.world)):
            compared = compare(_without(own, asked.difference(run.world.touched)), run.world, ignore)
            matched |= compared.matched
            unreadable.update(dict.fromkeys(compared.unreadable))
            findings, ignored = compared.findings, compared.ignored
        lasting = any(step.on for step in run.schedule.steps)
        if lasting:
            # A job that may give up for good may also say so: only how it retried is judged.
            findings = tuple(finding for finding in findings if finding.rule in {"endless", "no-delay"})
        if run.outcome != "passed" and not findings and (not lasting or NO_REST in run.message):
            findings = (Finding("test", "the test", "passes", run.message),)
        if findings:
            failing.append((run, findings, ignored))
    unseen = tuple(f"{each.probe} was not compared: {each.reason}" for each in unreadable)
    retries = retry_notes(own, [(run.hit, run.world) for run in found.runs if run.world is not None])
    early = _early([own, *(run.world for run in (found.first, *found.runs) if run.world is not None)])
    matched = matched.union(*(ignore.all(f"publish:{each.task}") for each in early))
    early = [each for each in early if ignore.find(f"publish:{each.task}") is None]
    if not failing:
        return Judgement(render_effects.early(early) if early else "", ignore.unused(matched), (), unseen, retries)
    worst, findings, ignored = failing[0]
    same = [str(run.schedule) for run, others, _ in failing[1:] if _sort(others) == _sort(findings)]
    more = [str(run.schedule) for run, others, _ in failing[1:] if _sort(others) != _sort(findings)]
    said = [*notes, *unseen, *map(render_effects.early_line, early)]
    if worst.outcome != "passed" and findings[0].rule != "test":
        said.append(f"The test fails there too: {worst.message}")
    if more:
        rest = f" and {len(more) - 8} more" if len(more) > 8 else ""
        said.append(f"Fails otherwise at {', '.join(more[:8])}{rest}.")
    text = render.failure(
        render.Failure(
            task=_blamed(worst, findings),
            schedule=str(worst.schedule),
            findings=findings,
            ignored=ignored,
            timeline=worst.timeline,
            replay=replay(worst.schedule),
            notes=tuple(said),
            also=tuple(same),
        )
    )
    return Judgement(text, (), tuple(str(run.schedule) for run, _, _ in failing), unseen, retries)


def _early(worlds: Sequence[World]) -> list[Early]:
    """Return the jobs that were published before a commit in any run, once each, with the line where one run knows it."""
    found: dict[tuple[str, str], Early] = {}
    for each in (each for world in worlds for each in world.early):
        before = found.setdefault((each.task, each.by), each)
        if each.where and not before.where:
            found[each.task, each.by] = each
    return list(found.values())


def _sort(findings: Sequence[Finding]) -> tuple[str, ...]:
    """Tell failures apart by what is wrong, not by where."""
    return tuple(f"{finding.rule} {VOLATILE.sub('#', finding.subject)} {_direction(finding)}" for finding in findings)


def _direction(finding: Finding) -> str:
    """Tell too many from too few."""
    counts = [re.match(r"[\d,]+", side) for side in (finding.once, finding.now)]
    once, now = (int(count[0].replace(",", "")) if count is not None else 0 for count in counts)
    return "more" if now > once else "fewer" if now < once else ""


def _complete(own: World, failed: World) -> bool:
    """Whether a run whose test failed published every job of the undisturbed one: else its world is only half made."""
    ran = {(outcome.task, outcome.job) for outcome in failed.outcomes}
    return all((outcome.task, outcome.job) in ran for outcome in own.outcomes)


def _blamed(run: Run, findings: tuple[Finding, ...]) -> str:
    """Name the task a failure is about: the one it names, else the struck one that touched what differs."""
    worst = findings[0]
    named = " ".join([worst.subject, *(line.label for line in worst.evidence[:1])]).split()
    for task in run.tasks:
        if worst.rule in {"outcome", "lost", "left", "other-error", "endless", "no-delay", "lock"} and task.rpartition(".")[2] in named:
            return task
    for task, touched in run.blamed:
        if any(each == worst.subject or each.endswith(f":{worst.subject}") for each in touched):
            return task
    return next((task for task, _ in run.blamed), run.tasks[0] if run.tasks else "the test")
