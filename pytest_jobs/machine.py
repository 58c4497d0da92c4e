"""Sequences of faults, generated and shrunk: a state machine for Hypothesis."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, reject, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, precondition, rule
from hypothesis.strategies import SearchStrategy

from pytest_jobs.errors import UsageError
from pytest_jobs.jobs import Jobs, in_process_worker
from pytest_jobs.schedules import ONCE, Schedule
from pytest_jobs.search import CALLS, PASSING, Search, points, rule_name, steps
from pytest_jobs.shrinking import Latest, stories
from pytest_jobs.story import Block, Call, Published, Story
from pytest_jobs.strategies import args_for

__all__ = ["JobMachine"]
__tracebackhide__ = True

DISTURBANCES = ("crash", "redeliver", "overlap", "reorder", "revoke", "fail", "restart")
START = "2030-01-31T09:00:00+00:00"
USUAL_STEPS, ENOUGH_STEPS = 50, 24
def _own(machine: "JobMachine") -> SearchStrategy[Call]:
    return machine._calls


def _point(machine: "JobMachine") -> SearchStrategy[int]:
    return points(machine._search, machine._story.points)


def _when(name: str, least: int = 0) -> Callable[[Any], bool]:
    """Return when a disturbance can be chosen: it is wanted, and so many messages could be delivered."""
    return lambda machine: name in machine.disturb and machine._story.ready >= least


class JobMachine(RuleBasedStateMachine):
    """Publish jobs, disturb them in any order, and compare what is left with the same story undisturbed.

    Subclass it, say which tasks there are and how the world begins; its `TestCase` is the test. Each example has a
    world of its own, in virtual time that begins at one instant. A rule of a subclass that changes the world does so
    through `act`, so that the undisturbed world gets it too. Invariants are added as with any state machine.

    Attributes:
        tasks: The tasks, their arguments generated from their annotations; or a mapping of tasks to strategies of
            positional arguments (tuples) or keyword arguments (dictionaries).
        disturb: Which disturbances there are; by default all.
        options: Options of `in_process_worker`.
        published: The bundle of published jobs; a rule that publishes has it as its target, and returns what `send` returns.
        jobs: The jobs of the world that is open now.

    Raises:
        UsageError: When there is neither a task nor a rule of its own, or an unknown disturbance.

    Example:
        >>> class Shop(JobMachine):
        ...     tasks = {charge: st.tuples(st.integers(1, 3))}
        ...
        ...     def setup(self):
        ...         charged.clear()
        ...         self.jobs.watch(charged)
        >>> TestShop = Shop.TestCase
    """

    tasks: ClassVar[Any] = ()
    disturb: ClassVar[Sequence[str]] = DISTURBANCES
    options: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    published: ClassVar[Bundle[Published]] = Bundle("job")
    _calls: ClassVar[SearchStrategy[Call]]
    _open: ClassVar[Jobs | None] = None
    _latest: ClassVar[Latest] = Latest()
    jobs: Jobs

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._calls = st.deferred(lambda: _calls_of(cls))
        given = settings()
        # Longer stories find little more, and each disturbance costs a worker's start.
        steps = ENOUGH_STEPS if given.stateful_step_count == USUAL_STEPS else given.stateful_step_count
        # What explains a failure by its lines traces them, as a kill does.
        phases = [phase for phase in given.phases if phase is not Phase.explain]
        cls.TestCase.settings = settings(
            deadline=None, suppress_health_check=list(HealthCheck), stateful_step_count=steps, phases=phases,
            report_multiple_bugs=False,
        )
        cls.TestCase.setUp = lambda case: case.enterContext(cls._opened())  # type: ignore[method-assign, assignment]

    def __init__(self) -> None:
        super().__init__()
        _check(type(self))
        wanted = ["advance", *self.disturb]
        own = [rule for rule in self.rules if rule_name(rule) != "publish" or self.tasks or rule.function.__module__ != __name__]
        latest = self._latest
        self._search = latest.search = Search(own, wanted, self._possible, plain=latest.failing)
        self._outside = sys.exc_info()[1]
        with ExitStack() as stack:
            self.jobs = self._open or stack.enter_context(self._opened())
            self._story = Story(self.jobs._session, type(self).__name__, self.setup)
            self._block = stack.enter_context(Block(self.jobs._session))
            self._rules_strategy: Any = steps(self, self._search, self._story)
            self._story.begin()
            self._world = stack.pop_all()

    @classmethod
    @contextmanager
    def _opened(cls) -> Iterator[Jobs]:
        """Open a world for every example of one test; each begins where it began."""
        with in_process_worker(**{"start": START, **cls.options}) as jobs, stories() as cls._latest:
            cls._open = jobs
            try:
                yield jobs
            finally:
                cls._open = None

    def _possible(self, rule: Any) -> bool:
        return all(self.bundle(each.name) for each in rule.bundles) and all(each(self) for each in rule.preconditions)

    # For subclasses

    def setup(self) -> None:
        """Make the world what it is before the story: called at the beginning of each world, the undisturbed ones too.

        What the plugin sees by itself (databases, Redis, files) is put back between worlds; anything else is reset, and
        watched with `self.jobs.watch`, here.
        """

    def send(self, task: Any, /, *args: Any, **kwargs: Any) -> Published:
        """Publish a job in a rule of a subclass; the rule's target is `published`.

        Args:
            task: The task.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
        """
        return self._story.publish(Call(task, args, kwargs))

    def act(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Let something happen that belongs to the story, so that the undisturbed world gets it too.

        Args:
            function: What to call; it may publish.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
        """
        return self._story.act(function, args, kwargs)

    def teardown(self) -> None:
        """Come to rest, compare with the undisturbed world, and close the world; an override calls it."""
        __tracebackhide__ = True
        error = sys.exc_info()[1]
        if error is not None and error is not self._outside:
            self._world.__exit__(type(error), error, error.__traceback__)
            return
        with self._world:
            self._story.end(self._block)

    # The rules

    @precondition(lambda machine: bool(machine.tasks))
    @rule(target=published, call=st.runner().flatmap(_own))
    def publish(self, call: Call) -> Published:
        """Publish a job."""
        return self._story.publish(call)

    @rule()
    def deliver(self) -> None:
        """Deliver the next message, when there is one: always possible, so that the steps of a story can go one by one."""
        __tracebackhide__ = True
        self._story.deliver(ONCE)

    @precondition(_when("crash", 1))
    @rule(at=st.runner().flatmap(_point))
    def crash(self, at: int) -> None:
        """Deliver the next message, and kill the worker at a point of its run."""
        __tracebackhide__ = True
        self._story.deliver(Schedule("crash", at))

    @precondition(_when("overlap", 1))
    @rule(at=st.runner().flatmap(_point))
    def overlap(self, at: int) -> None:
        """Deliver the next message; at a point of its run the one behind it, or else a copy of it, runs to its end."""
        __tracebackhide__ = True
        if not self._story.deliver(Schedule("overlap", at)):
            reject()

    @precondition(_when("fail", 1))
    @rule(at=CALLS, after=st.booleans())
    def fail(self, at: int, after: bool) -> None:
        """Deliver the next message; one of its outgoing calls raises, before or after it took effect."""
        __tracebackhide__ = True
        self._story.deliver(Schedule("reply-lost" if after else "fail", at))

    @precondition(_when("redeliver"))
    @rule(job=published)
    def redeliver(self, job: Published) -> None:
        """Deliver a job's message once more."""
        __tracebackhide__ = True
        self._story.redeliver(job)

    @precondition(_when("reorder", 2))
    @rule()
    def reorder(self) -> None:
        """Put the next message behind the others."""
        self._story.reorder()

    @precondition(_when("revoke", 1))
    @rule(job=published)
    def revoke(self, job: Published) -> None:
        """Revoke a job that has not begun."""
        self._story.revoke(job)

    @precondition(lambda machine: machine._story.begun)
    @precondition(_when("restart"))
    @rule(how=st.sampled_from(("warm", "kill")))
    def restart(self, how: str) -> None:
        """Stop the worker between two jobs."""
        self._story.restart(how)

    @precondition(lambda machine: machine._story.begun)
    @rule(seconds=PASSING)
    def advance(self, seconds: int) -> None:
        """Let time pass; what is due then runs."""
        self._story.advance(seconds)


def _check(machine: type[JobMachine]) -> None:
    unknown = [name for name in machine.disturb if name not in DISTURBANCES]
    if unknown:
        raise UsageError(
            f"{machine.__name__}.disturb has {unknown[0]!r}; allowed are {', '.join(DISTURBANCES)}"
        )
    if not machine.tasks and all(rule.function.__module__ == __name__ for rule in machine.setup_state().rules):
        raise UsageError(f"{machine.__name__} has no tasks; give it tasks = [charge, …] or tasks = {{charge: strategy, …}}")


def _calls_of(machine: type[JobMachine]) -> SearchStrategy[Call]:
    """Return what generates the calls of a machine's tasks."""
    given = machine.tasks
    strategies = dict(given) if isinstance(given, Mapping) else {task: args_for(task) for task in given}
    return st.one_of([strategy.map(partial(_call, task, machine.__name__)) for task, strategy in strategies.items()])


def _call(task: Any, machine: str, given: Any) -> Call:
    if isinstance(given, Mapping):
        return Call(task, (), given)
    if not isinstance(given, tuple):
        raise UsageError(f"{machine}.tasks generates {given!r} for {task.name}; allowed are tuples and dictionaries of arguments")
    return Call(task, given, {})
