"""A marked test of Hypothesis: each example is run again under each schedule, in fresh worlds."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import wraps
from inspect import iscoroutinefunction
from shlex import quote
from typing import TYPE_CHECKING, Any

from pytest_jobs.case import first_line
from pytest_jobs.errors import UsageError
from pytest_jobs.explore import explore, judge
from pytest_jobs.fresh import forgive, fresh
from pytest_jobs.ignore import Ignore
from pytest_jobs.kinds import KINDS
from pytest_jobs.marked import bring_to_rest, fail_at, failing_run, options_for
from pytest_jobs.render import no_job
from pytest_jobs.render_checks import left_out, not_overlapped, vacuous
from pytest_jobs.route import Route
from pytest_jobs.runs import Exploration, Run
from pytest_jobs.schedules import ONCE, Schedule, parse

if TYPE_CHECKING:
    from pytest_jobs.jobs import Jobs
    from pytest_jobs.marked import Marked
    from pytest_jobs.options import Options

__all__ = ["Examples", "generated", "replaced"]
__tracebackhide__ = True


def generated(item: Any) -> Any | None:
    """Return Hypothesis's handle of a test whose examples it generates, None for any other test."""
    handle = getattr(getattr(item, "obj", None), "hypothesis", None)
    return handle if hasattr(handle, "inner_test") else None


@contextmanager
def replaced(item: Any, jobs: "Jobs", marked: "Marked", options: "Options") -> Iterator["Examples"]:
    """Let each example of a test be explored, as long as the test runs."""
    handle = generated(item)
    assert handle is not None
    examples = Examples(item, jobs, marked, options, handle)
    examples.begin()
    try:
        yield examples
    finally:
        examples.end()


class Examples:
    """Owns what is known of the examples of one test."""

    def __init__(self, item: Any, jobs: "Jobs", marked: "Marked", options: "Options", handle: Any) -> None:
        self._handle, self._inner, self._body = handle, handle.inner_test, handle.inner_test
        self._example: Callable[..., None] | None = None
        self._jobs = jobs
        self._session = jobs._session
        self._name, self._node = item.name, item.nodeid
        self._marked = marked
        self._common = options.ignore
        self._kinds, self._most = options_for(options, marked)
        asked = item.config.getoption("jobs_schedule")
        self._only = parse(asked) if asked else None
        self._patterns: tuple[str, ...] = ()
        self._busy = self._warm = False
        self._struck: set[str] = set()
        self._unused: set[str] | None = None
        self._unseen: dict[str, None] = {}
        self._retries: dict[str, None] = {}
        self._left_out = 0
        self._closed: list[str] = []

    def begin(self) -> None:
        """Take the place of the test; of a coroutine only when its own plugin has made a plain function of it."""
        body = self._handle.inner_test
        if self._example is not None or iscoroutinefunction(body):
            return

        @wraps(body)
        def example(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            self.explore(lambda: body(*args, **kwargs), kwargs)

        self._body, self._handle.inner_test, self._example = body, example, example

    def end(self) -> None:
        """Give its place back, unless that was done."""
        if self._handle.inner_test is self._example:
            self._handle.inner_test = self._body

    def explore(self, body: Callable[[], None], given: dict[str, Any]) -> None:
        """Run one example undisturbed and under each schedule, and judge.

        Raises:
            AssertionError: At the test, when a schedule makes a difference.
            UsageError: When the example draws while it runs, so that it cannot be run again.
        """
        __tracebackhide__ = True
        interactive = [name for name, value in given.items() if type(value).__name__ == "DataObject"]
        if interactive:
            raise UsageError(
                f"{self._name} is marked idempotent and draws from {interactive[0]}=data() while it runs, so no example "
                "can be run again; allowed are strategies in @given"
            )
        # Imported here: Hypothesis runs already.
        from pytest_jobs.unsaid import unsaid

        seed, left_out = random.getstate(), 0 if self._warm else 1
        self._warm, ran = True, 0

        def run(schedule: Schedule, wanted: frozenset[str], record: bool) -> Run:
            nonlocal ran
            ran += 1
            # A deadline is about the example itself, not about how often it is explored.
            uncounted = nullcontext() if ran == left_out + 1 else self._session.clock.unfrozen.uncounted()
            with uncounted, nullcontext() if ran == 1 else unsaid():
                random.setstate(seed)
                return self._run(body, schedule, wanted, record)

        if left_out:
            run(ONCE, frozenset(), False)
        found = explore(self._kinds, run, self._most, lambda done, of: None, self._only)
        own = run(ONCE, found.subjects, False)
        self._judge(found, own)

    def _run(self, body: Callable[[], None], schedule: Schedule, wanted: frozenset[str], record: bool) -> Run:
        """Run the body once, in a fresh world."""
        session, worker = self._session, self._session.worker
        with fresh(session):
            worker.route = Route(schedule, record, worker.route.signature)
            worker.wanted = wanted
            if worker.route.lines:
                worker.source = worker.source or session.source()
            session.replaying = True
            try:
                body()
                run = bring_to_rest(self._jobs, schedule, self._name, implied=True)
            except BaseException as error:
                if schedule == ONCE or not _fails(error):
                    raise
                run = self._failed(schedule, error)
            finally:
                session.replaying = False
                self._patterns = tuple(session.ignore)
                forgive(session)
        return run

    def _failed(self, schedule: Schedule, error: BaseException) -> Run:
        if _of_hypothesis(error):
            # An assumption of the test does not hold under this schedule: it says nothing.
            return Run(schedule, "passed", struck=False)
        return failing_run(schedule, first_line("call", error), self._jobs)

    def _judge(self, found: Exploration, own: Run) -> None:
        __tracebackhide__ = True
        assert own.world is not None
        self._struck |= {step.kind for run in found.runs if run.struck for step in run.schedule.steps}
        self._left_out, self._closed = max(self._left_out, found.left_out), max(self._closed, found.closed, key=len)
        self._busy = self._busy or bool(own.tasks)
        command = f"pytest {quote(self._node)}{' --jobs-all' if self._marked.implied else ''} --jobs-schedule"
        notes = [left_out(found.left_out, len(found.runs))] if found.left_out else []
        judgement = judge(
            self._name, found, own.world, Ignore(self._patterns), lambda schedule: f"{command} {schedule}", notes
        )
        self._unused = set(judgement.unused) if self._unused is None else self._unused & set(judgement.unused)
        self._unseen.update(dict.fromkeys(judgement.unseen))
        self._retries.update(dict.fromkeys(judgement.retries))
        if judgement.failure:
            fail_at(self._inner, AssertionError(judgement.failure))

    def verdict(self) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        """Return what there is to say when all examples passed: a failure's text, warnings, lines for the summary."""
        if not self._busy:
            return ("" if self._marked.implied else no_job(self._name)), (), ()
        kinds = self._kinds if self._only is None else tuple(step.kind for step in self._only.steps)
        nothing = [kind for kind in kinds if kind not in self._struck]
        warned = [vacuous(kind, self._name) for kind in nothing if self._only is not None or {*self._kinds} != {*KINDS}]
        unused = sorted((self._unused or set()) - set(self._common))
        warned += [f"ignore={pattern!r} of {self._name} matched nothing" for pattern in unused]
        warned += [f"in {self._name}, {sentence}" for sentence in self._unseen]
        said = [f"{self._node}: {', '.join(nothing)} found nothing to do"] if nothing else []
        said += [f"{self._node}: {left_out(self._left_out, self._most)}"] if self._left_out else []
        said += [f"{self._node}: {not_overlapped(self._closed)}"] if self._closed else []
        said += [f"{self._node}: {sentence}" for sentence in self._retries]
        return "", tuple(warned), tuple(said)


def _of_hypothesis(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] == "hypothesis"


def _fails(error: BaseException) -> bool:
    """Whether an error is one of the test, and not a way to stop it."""
    return isinstance(error, Exception) or type(error).__name__ == "Failed"
