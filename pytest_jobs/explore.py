"""Run a test again under one schedule after another, each time in a fresh world; then judge."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from pytest_jobs import render
from pytest_jobs.ignore import Ignore
from pytest_jobs.route import Point
from pytest_jobs.schedules import ONCE, Schedule, planned
from pytest_jobs.verdict import Comparison, compare
from pytest_jobs.world import Finding, World

__all__ = ["Exploration", "Run", "explore", "judge"]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a test under one schedule.

    Attributes:
        schedule: Under which.
        outcome: `passed`, `failed` or `skipped`.
        message: Why it failed, its first line.
        world: What it left, None when it did not come that far.
        timeline: Its lines.
        deliveries: How many deliveries there were.
        tasks: The names of the tasks that ran, in order of their first run.
        struck: Whether the schedule found something to do.
        points: One point of each class, recorded in the undisturbed run.
        outgoing: The labels of the outgoing calls, likewise.
        gave_up: The errors with which jobs ended that were not the injected ones; None when no job gave up.
    """

    schedule: Schedule
    outcome: str
    message: str = ""
    world: World | None = None
    timeline: tuple[str, ...] = ()
    deliveries: int = 0
    tasks: tuple[str, ...] = ()
    struck: bool = True
    points: tuple[Point, ...] = ()
    outgoing: tuple[str, ...] = ()
    gave_up: tuple[str, ...] | None = None


@dataclass(slots=True)
class Exploration:
    """What exploring one test brought.

    Attributes:
        first: The undisturbed run; None when nothing was explored.
        runs: The runs under schedules.
        vacuous: The kinds that found nothing to do.
        left_out: How many schedules the budget cut.
        spoiled: Why the undisturbed run failed, empty when it did not.
    """

    first: Run | None = None
    runs: list[Run] = field(default_factory=list)
    vacuous: list[str] = field(default_factory=list)
    left_out: int = 0
    spoiled: str = ""

    @property
    def subjects(self) -> frozenset[str]:
        """What any of the runs wrote, so that the undisturbed one is asked for it too."""
        runs = [*self.runs, *([self.first] if self.first is not None else [])]
        return frozenset(subject for run in runs if run.world is not None for subject in run.world.state)


def explore(
    kinds: Sequence[str],
    run: Callable[[Schedule, frozenset[str]], Run],
    limit: int,
    progress: Callable[[int, int], None],
    only: Schedule | None = None,
    remembered: Sequence[str] = (),
) -> Exploration:
    """Run a test undisturbed, then under each schedule.

    Args:
        kinds: The kinds of schedules.
        run: Runs the test in a fresh world, and reads these subjects of it whether they were written or not.
        limit: The most schedules.
        progress: Told after each run how many of how many are done.
        only: The one schedule to run instead of the kinds.
        remembered: The ids that failed the last time, tried first.
    """
    found = Exploration()
    first = run(ONCE, frozenset())
    if first.outcome != "passed" or first.world is None:
        found.spoiled = first.message
        return found
    found.first = first
    queue = [only] if only is not None else list(_round_robin([_planned(kind, first) for kind in kinds]))
    queue.sort(key=lambda schedule: str(schedule) not in remembered)
    found.left_out = max(len(queue) - limit, 0)
    for number, schedule in enumerate(queue[:limit], start=1):
        found.runs.append(run(schedule, frozenset(first.world.state)))
        progress(number, min(len(queue), limit))
    tried = {one.schedule.kind for one in found.runs if one.struck} | {schedule.kind for schedule in queue[limit:]}
    found.vacuous = [kind for kind in ([only.kind] if only is not None else kinds) if kind not in tried]
    return found


def _planned(kind: str, first: Run) -> Sequence[Schedule]:
    points = [(point.number, point.open) for point in first.points]
    return planned(kind, first.deliveries, points, len(first.outgoing))


def _round_robin(groups: Sequence[Sequence[Schedule]]) -> Iterator[Schedule]:
    for row in zip_longest(*groups):
        yield from (schedule for schedule in row if schedule is not None)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What there is to say about an explored test.

    Attributes:
        failure: The failure's text, empty when there is none.
        unused: The ignore patterns that matched nothing.
        failing: The ids of the schedules that failed.
    """

    failure: str
    unused: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()


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
    twin = compare(found.first.world, own, ignore)
    matched = twin.matched
    if twin.findings:
        return Judgement(render.irreproducible(name, twin), ())
    failing: list[tuple[Run, tuple[Finding, ...], tuple[str, ...]]] = []
    for run in found.runs:
        findings: tuple[Finding, ...] = ()
        ignored: tuple[str, ...] = ()
        if run.world is not None and (run.outcome == "passed" or _complete(own, run.world)):
            compared = compare(own, run.world, ignore)
            matched |= compared.matched
            findings, ignored = compared.findings, compared.ignored
        if run.outcome != "passed" and not findings:
            findings = (Finding("test", "the test", "passes", run.message),)
        if findings:
            failing.append((run, findings, ignored))
    if not failing:
        return Judgement("", ignore.unused(matched))
    worst, findings, ignored = failing[0]
    more = tuple(str(run.schedule) for run, _, _ in failing[1:])
    said = list(notes)
    if worst.outcome != "passed" and findings[0].rule != "test":
        said.append(f"The test fails there too: {worst.message}")
    if more:
        said.append(f"Fails too at {', '.join(more[:10])}.")
    text = render.failure(
        render.Failure(
            task=_blamed(worst, findings),
            schedule=str(worst.schedule),
            findings=findings,
            ignored=ignored,
            timeline=worst.timeline,
            replay=replay(worst.schedule),
            notes=tuple(said),
        )
    )
    return Judgement(text, (), tuple(str(run.schedule) for run, _, _ in failing))


def _complete(own: World, failed: World) -> bool:
    """Whether a run whose test failed published every job of the undisturbed one: else its world is only half made."""
    ran = {(outcome.task, outcome.job) for outcome in failed.outcomes}
    return all((outcome.task, outcome.job) in ran for outcome in own.outcomes)


def _blamed(run: Run, findings: tuple[Finding, ...]) -> str:
    """Name the task a finding is about: the one it names, else the first that ran."""
    for finding in findings:
        for task in run.tasks:
            if finding.rule == "outcome" and task.rpartition(".")[2] in finding.subject:
                return task
    return run.tasks[0] if run.tasks else "the test"
