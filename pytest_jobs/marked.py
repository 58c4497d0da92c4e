"""What a marked test does with its world: bring it to rest, read it, judge it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha1
from inspect import unwrap
from shlex import quote
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from pytest_jobs import render, render_checks
from pytest_jobs.clock import frozen
from pytest_jobs.errors import RunawayJobs, UsageError
from pytest_jobs.explore import judge
from pytest_jobs.ignore import Ignore
from pytest_jobs.kinds import kinds
from pytest_jobs.render_checks import left_out, not_overlapped, vacuous
from pytest_jobs.resting import struck
from pytest_jobs.runs import Exploration, Run
from pytest_jobs.schedules import AT_CALLS, ONCE, Schedule
from pytest_jobs.timeline import lines
from pytest_jobs.trial import run_again

if TYPE_CHECKING:
    from pytest_jobs.case import Case
    from pytest_jobs.jobs import Jobs
    from pytest_jobs.options import Options

__all__ = ["LEAKS", "Marked", "Order", "bring_to_rest", "fail_at", "failing_run", "judged", "options_for", "remembered"]
__tracebackhide__ = True

LEAKS = (
    "The same test passed in its first undisturbed run: what one run leaves behind reaches the next. "
    "Make it in a function-scoped fixture, fresh for each run."
)


class Order(NamedTuple):
    """How a test is to be run: under which schedule, from when, reading what, noting its points or not."""

    schedule: Schedule = ONCE
    start: datetime | None = None
    wanted: frozenset[str] = frozenset()
    record: bool = False

    @property
    def begins(self) -> datetime | None:
        """When the clock starts; a test that froze time by itself keeps its instant."""
        return None if frozen() else self.start


def idempotent(
    *schedules: str, ignore: Sequence[str] = (), tasks: Sequence[str] = (), max_schedules: int | None = None
) -> tuple[tuple[str, ...], Sequence[str], Sequence[str], int | None]:
    """Be the marker's signature; its arguments are splatted into this."""
    return schedules, ignore, tasks, max_schedules


@dataclass(frozen=True, slots=True)
class Marked:
    """What the `idempotent` markers of one test ask for.

    Attributes:
        schedules: The kinds; empty for those of the ini file.
        ignore: Patterns of differences that are fine.
        tasks: The names of the only tasks that schedules disturb; empty for all.
        max_schedules: The most schedules; None for the ini file's.
        implied: Whether no marker is there, but `--jobs-all`.
    """

    schedules: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    max_schedules: int | None = None
    implied: bool = False

    @classmethod
    def of(cls, marks: Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]]) -> "Marked":
        """Read markers, nearest first; the nearest wins, key by key.

        Raises:
            UsageError: When one is written wrong.
        """
        merged: dict[str, Any] = {}
        for args, kwargs in marks:
            try:
                idempotent(*args, **kwargs)
            except TypeError as error:
                what = str(error).replace("idempotent() ", "")
                raise UsageError(
                    f"@pytest.mark.idempotent {what}; allowed are kinds of schedules, ignore, tasks and max_schedules"
                ) from None
            for name, value in {**({"schedules": args} if args else {}), **kwargs}.items():
                merged.setdefault(name, value)
        most = merged.get("max_schedules")
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            raise UsageError(f"@pytest.mark.idempotent was given max_schedules={most!r}; allowed is a whole number from 1")
        return cls(
            kinds(merged.get("schedules", ()), "@pytest.mark.idempotent"),
            tuple(Ignore(merged.get("ignore", ())).patterns),
            _names(merged.get("tasks", ())),
            most,
        )


def _names(tasks: Any) -> tuple[str, ...]:
    if isinstance(tasks, str):
        raise UsageError(f"@pytest.mark.idempotent was given tasks={tasks!r}; allowed is a list of task names, [{tasks!r}]")
    names = [getattr(task, "name", task) for task in tasks] if isinstance(tasks, Iterable) else [tasks]
    if not isinstance(tasks, Iterable) or not all(isinstance(name, str) and name for name in names):
        raise UsageError(f"@pytest.mark.idempotent was given tasks={tasks!r}; allowed are tasks and their registered names, in a list")
    return tuple(map(str, names))


def judged(case: "Case", item: Any, options: "Options") -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Judge a test whose body passed: return the failure's text (empty for none), warnings, lines for the summary.

    Args:
        case: What is known of the test; its run is noted there.
        item: The test.
        options: The settings.

    Raises:
        AssertionError: When no job ran in a marked test, or a fault never fired.
    """
    jobs, marked, found = case.jobs, case.marked, case.found
    assert jobs is not None
    if marked is None:
        jobs._session.check_faults()
        left = jobs.pending + jobs.scheduled
        more = f" and {len(left) - 10} more" if len(left) > 10 else ""
        told = f"jobs were still due when {item.name} ended: {', '.join(map(repr, left[:10]))}{more}"
        return "", (told,) if left else (), ()
    if found is not None:
        jobs._worker.wanted = found.subjects
    schedule = case.order.schedule if case.order is not None else ONCE
    case.run = bring_to_rest(jobs, schedule, item.name, marked.implied)
    if marked.tasks and not {*marked.tasks} & {*case.run.tasks}:
        raise UsageError(
            f"{item.name} is marked idempotent for tasks={[*marked.tasks]!r}, but no job of them ran; "
            f"there ran {', '.join(case.run.tasks)}"
        )
    if found is None or (found.first is None and not found.spoiled) or (marked.implied and not case.run.tasks):
        return "", (), ()
    failure, warned, said, failing = _verdict(
        item.name, item.nodeid, found, case.run, jobs._session.ignore, options.ignore, marked.implied
    )
    _remember(item, failing)
    return failure, warned, said


def bring_to_rest(jobs: "Jobs", schedule: Schedule, test: str, implied: bool = False) -> Run:
    """Settle what the test left, finish the schedule, read the world.

    Raises:
        AssertionError: When no job ran, a fault never fired, or a job was dropped because its retry could not be published.
    """
    session = jobs._session
    worker = session.worker
    jobs.settle()
    if not implied and not any(entry.attempts for entry in worker.ledger.entries.values()):
        raise AssertionError(render.no_job(test))
    session.check_faults()
    dropped = next((job for job in jobs.lost if job.attempts and job.attempts[-1].outcome == "retry lost"), None)
    if dropped is not None and schedule == ONCE and "lost" not in session.ignore:
        raise AssertionError(render_checks.dropped(dropped.name, lines(worker)))
    count = len(worker.deliveries)
    session.come_late(schedule)
    return _run(jobs, schedule, "passed", "", count)


def _run(jobs: "Jobs", schedule: Schedule, outcome: str, message: str, deliveries: int) -> Run:
    """Read the world at rest; a job that gave up with the injected error is run once more first, as people do."""
    session = jobs._session
    worker = session.worker
    worker.route.mend()
    gave_up = run_again(session) if schedule.has(*AT_CALLS) else ()
    world = session.world(worker.wanted, frozenset(gave_up))
    return Run(
        schedule=schedule,
        outcome="passed" if gave_up else outcome,
        message=message,
        world=world,
        timeline=lines(worker),
        deliveries=deliveries,
        tasks=tuple(dict.fromkeys(job.name for job in jobs.all if job.attempts)),
        struck=worker.route.struck or schedule == ONCE,
        points=worker.route.points,
        outgoing=worker.route.outgoing,
        callers=worker.route.callers,
        blamed=struck(worker),
        ignore=tuple(session.ignore),
        hit=worker.route.hit,
        closed=worker.route.closed,
    )


def _verdict(
    test: str, node: str, found: Exploration, own: Run, ignore: Sequence[str], common: Sequence[str], implied: bool
) -> tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the failure's text (empty for none), the warnings, the lines for the summary, the failing schedules.

    Args:
        test: The test's name.
        node: Its id.
        found: What exploring brought.
        own: The item's own, undisturbed run.
        ignore: Which differences are fine.
        common: Those of them that the ini file names for every test: none has to use them.
        implied: Whether no marker is there, but `--jobs-all`.
    """
    assert own.world is not None
    notes = [left_out(found.left_out, len(found.runs))] if found.left_out else []
    said = [f"{node}: {note}" for note in notes]
    warned = [vacuous(name, test) for name in found.vacuous if not found.all_kinds]
    command = f"pytest {quote(node)}{' --jobs-all' if implied else ''} --jobs-schedule"
    judgement = judge(test, found, own.world, Ignore(ignore), lambda schedule: f"{command} {schedule}", notes)
    unused = [pattern for pattern in judgement.unused if pattern not in common]
    warned += [f"ignore={pattern!r} of {test} matched nothing" for pattern in unused]
    warned += [f"in {test}, {sentence}" for sentence in judgement.unseen]
    said += [f"{node}: {sentence}" for sentence in judgement.retries]
    if found.closed:
        said.append(f"{node}: {not_overlapped(found.closed)}")
    if not judgement.failure and not implied and not any(
        run.world is not None and (run.world.effects or run.world.state) for run in (own, *found.runs)
    ):
        said.append(f"{node}: no probe saw anything that its jobs did, so only their results were compared")
    nothing = [*found.vacuous, *found.missed]
    said += [f"{node}: {', '.join(nothing)} found nothing to do"] if nothing else []
    return judgement.failure, tuple(warned), tuple(said), judgement.failing


def fail_at(function: Callable[..., Any], error: BaseException) -> NoReturn:
    """Raise an error whose traceback ends at the test's own `def` line.

    After the body has returned no frame of the test is left; pytest prints a full text and honours the margin only when
    the last frame is the user's, so one is compiled at that place.
    """
    error = error.with_traceback(None)
    code = getattr(unwrap(function), "__code__", None)
    if code is None:
        raise error
    first = code.co_firstlineno
    try:
        with open(code.co_filename, encoding="utf-8") as file:
            source = file.read().splitlines()
    except OSError:
        source = []
    line = first
    while line <= len(source) and not source[line - 1].lstrip().startswith(("def ", "async def ")):
        line += 1
    line = line if line <= len(source) else first
    name = code.co_name if code.co_name.isidentifier() else "test"
    text = "\n" * (first - 1) + f"def {name}():" + "\\\n" * (line - first) + " raise error"
    namespace: dict[str, Any] = {"error": error}
    exec(compile(text, code.co_filename, "exec"), namespace)  # noqa: S102 - our own text, see above
    namespace[name]()
    raise error


def failing_run(schedule: Schedule, message: str, jobs: "Jobs | None") -> Run:
    """Record a run whose test failed under its schedule, with the world as it then came to rest."""
    if jobs is None:
        return Run(schedule, "failed", message)
    worker = jobs._worker
    try:
        jobs.settle()
        return _run(jobs, schedule, "failed", message, len(worker.deliveries))
    except (RunawayJobs, UsageError):
        ran = tuple(dict.fromkeys(job.name for job in jobs.all if job.attempts))
        closed = worker.route.closed
        return Run(schedule, "failed", message, None, lines(worker), len(worker.deliveries), ran, closed=closed)


def options_for(options: "Options", marked: Marked) -> tuple[tuple[str, ...], int]:
    """Return the kinds and the budget of one marked test."""
    return options.explore or marked.schedules or options.schedules, marked.max_schedules or options.max_schedules


def remembered(item: Any) -> tuple[str, ...]:
    """Return the schedules that failed in this test the last time: they are tried first."""
    cache = getattr(item.config, "cache", None)
    return tuple(cache.get(_cache_key(item), [])) if cache is not None else ()


def _remember(item: Any, failing: Sequence[str]) -> None:
    """Keep the schedules that failed in this test for the next time."""
    cache = getattr(item.config, "cache", None)
    if cache is not None and (failing or remembered(item)):
        cache.set(_cache_key(item), list(failing[:20]))


def _cache_key(item: Any) -> str:
    return f"jobs/failing/{sha1(item.nodeid.encode(), usedforsecurity=False).hexdigest()}"
