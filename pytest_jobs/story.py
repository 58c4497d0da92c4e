"""One story of jobs: what was published, disturbed and passed by, and the same again without the disturbances."""

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_jobs import render, render_machine
from pytest_jobs.errors import UsageError
from pytest_jobs.fresh import forgive, fresh
from pytest_jobs.ignore import Ignore
from pytest_jobs.records import Job, called
from pytest_jobs.route import WAITS, Route
from pytest_jobs.schedules import AT_POINTS, Schedule
from pytest_jobs.timeline import lines
from pytest_jobs.trial import run_again
from pytest_jobs.verdict import Comparison, compare
from pytest_jobs.world import World

if TYPE_CHECKING:
    from pytest_jobs.session import Session

__all__ = ["Block", "Call", "Published", "Story"]
__tracebackhide__ = True


@dataclass(frozen=True, slots=True, repr=False)
class Call:
    """What is published: a task and its arguments; it prints as `charge(7)`."""

    task: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def __repr__(self) -> str:
        return called(self.task.name.rpartition(".")[2], self.args, self.kwargs)

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:  # Hypothesis would print the fields of a dataclass.
        printer.text(repr(self))


class Published:
    """One job of a story.

    Attributes:
        call: What was published.
    """

    def __init__(self, story: "Story", number: int, call: Call) -> None:
        self.call = call
        self._story = story
        self._number = number

    @property
    def id(self) -> str:
        """Its id in the world that is open now."""
        return self._story.ids[self._number]

    @property
    def job(self) -> Job:
        """The job as it stands."""
        return self._story.session.job(self.id)

    def __repr__(self) -> str:
        return repr(self.call)


Step = tuple[str, Any]


class Story:
    """Owns what happened in one example, and tells it again undisturbed."""

    def __init__(self, session: "Session", name: str, setup: Callable[[], None]) -> None:
        self.session = session
        self.ids: list[str] = []
        self._name = name
        self._setup = setup
        self._steps: list[Step] = []
        self._known: set[str] = set()
        self._random = random.getstate()
        self._jobs: list[Published] = []
        self._reached = 0

    # What happens in both worlds

    def publish(self, call: Call) -> Published:
        """Publish one job."""
        published = Published(self, len(self._jobs), call)
        self._jobs.append(published)
        self._steps.append(("publish", published))
        self._publish(published)
        return published

    def advance(self, seconds: float) -> None:
        """Let time pass; what is due then runs."""
        self._steps.append(("advance", seconds))
        self.session.worker.advance(seconds)

    def act(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Let something else happen that belongs to the story."""
        self._steps.append(("act", (function, args, kwargs)))
        return self._act(function, args, kwargs)

    def _publish(self, published: Published) -> None:
        self.ids.append(self.session.queue.publish(published.call.task, published.call.args, published.call.kwargs))
        self._known.add(self.ids[-1])

    def _act(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        before = set(self.session.worker.ledger.entries)
        try:
            return function(*args, **kwargs)
        finally:
            self._known.update(set(self.session.worker.ledger.entries) - before)

    # What happens in the disturbed world only

    @property
    def length(self) -> int:
        """How many steps there were that both worlds have."""
        return len(self._steps)

    @property
    def begun(self) -> bool:
        """Whether anything happened yet."""
        return bool(self._steps)

    @property
    def ready(self) -> int:
        """How many messages could be delivered now."""
        worker = self.session.worker
        lying = sum(copy.ready for entry in worker.ledger.entries.values() for copy in entry.copies.values())
        due = self.session.queue.next_due() if not lying else None
        return lying or int(due is not None and due <= self.session.clock.now)

    @property
    def points(self) -> int:
        """How many points a run may have, as far as runs of this story tell; 0 when none does."""
        return self._reached and self._reached + 1

    def deliver(self, schedule: Schedule) -> bool:
        """Deliver the next message under a schedule; return whether that was possible."""
        worker = self.session.worker
        if schedule.has(*AT_POINTS):
            worker.source = worker.source or self.session.source()
        outer, worker.route = worker.route, Route(schedule, False, worker.route.signature)
        route = worker.route
        # The message behind the next one is overlapped with it: two workers rarely have the same one.
        worker.beside = True
        try:
            worker.drain(limit=1)
            closed = worker.route.closed
        finally:
            worker.route, worker.beside = outer, False
        if not (route.struck and schedule.has("crash")):
            self._reached = max(self._reached, route.reached)
        self.check()
        return closed != WAITS

    def redeliver(self, published: Published) -> None:
        """Deliver the last message of a job once more."""
        worker = self.session.worker
        worker.again(worker.ledger.entries[published.id].last)
        worker.drain(limit=1)
        self.check()

    def reorder(self) -> None:
        """Put the first message behind the others of its queue."""
        worker = self.session.worker
        envelope = worker.queue.pop()
        if envelope is not None:
            worker.ledger.dropped(envelope)
            worker.queue.put(envelope)

    def revoke(self, published: Published) -> None:
        """Revoke a job that has not begun; of one that has, nobody could say what is right."""
        entry = self.session.worker.ledger.entries[published.id]
        if not entry.attempts:
            published.call.task.app.control.revoke(published.id)

    def restart(self, how: str) -> None:
        """Stop the worker between two jobs; the next delivery starts a fresh one."""
        self.session.worker.restart(kill=how == "kill")

    # The verdict

    def begin(self) -> None:
        """Make the world what it is at the beginning."""
        self.ids.clear()
        self._known.clear()
        random.setstate(self._random)
        self._setup()

    def check(self) -> None:
        """Fail when the broker delivered what was acknowledged already.

        Raises:
            AssertionError: With the message and the timeline.
        """
        __tracebackhide__ = True
        again = self.session.worker.after_ack
        if again:
            raise AssertionError(render_machine.after_ack(self._name, again[0].name, lines(self.session.worker)))

    def end(self, block: "Block") -> None:
        """Come to rest, leave the disturbed world, and compare it with the undisturbed one.

        Raises:
            AssertionError: With the difference.
            UsageError: When jobs were published behind the story's back.
        """
        __tracebackhide__ = True
        session = self.session
        session.worker.settle(session.settle_limit)
        gave_up = run_again(session)
        self.check()
        self._check_publishers()
        if not session.worker.ledger.entries and not any(kind == "act" for kind, _ in self._steps):
            block.leave()
            return
        revoked = {job for job in self._jobs if not job.job.attempts and job.job.state == "revoked"}
        now = self._world(frozenset(), frozenset(gave_up))
        told, patterns, left = lines(session.worker), tuple(session.ignore), block.leave()
        compared, now = self._compared(now, patterns, revoked)
        if not compared.findings:
            return
        once, again = (self._undisturbed(revoked, frozenset(now.state)) for _ in range(2))
        twins = compare(once, again, Ignore(patterns))
        if twins.findings:
            raise AssertionError(render.irreproducible(self._name, twins))
        notes = [f"Not put back between the worlds: {sentence}" for sentence in left]
        raise AssertionError(render_machine.unlike(self._name, compared, told, notes))

    def _compared(self, now: World, patterns: Sequence[str], revoked: set[Published]) -> tuple[Comparison, World]:
        once = self._undisturbed(revoked, frozenset(now.state))
        missed = frozenset(once.state) - frozenset(now.state)
        if missed:
            # What the disturbed world never touched holds what it held at the beginning.
            with fresh(self.session):
                self.begin()
                untouched = self._world(missed).state
                forgive(self.session)
            now = replace(now, state={**now.state, **{name: untouched[name] for name in missed if name in untouched}})
        return compare(once, now, Ignore(patterns)), now

    def _undisturbed(self, revoked: set[Published], wanted: frozenset[str]) -> World:
        """Tell the story without its disturbances: each job runs as soon as it is published, and once."""
        worker = self.session.worker
        with fresh(self.session):
            self.begin()
            for kind, what in self._steps:
                if kind == "publish":
                    self._publish(what)
                    if what in revoked:
                        what.call.task.app.control.revoke(what.id)
                elif kind == "advance":
                    worker.advance(what)
                else:
                    self._act(*what)
                worker.drain()
            worker.settle(self.session.settle_limit)
            forgive(self.session)
            return self._world(wanted)

    def _world(self, wanted: frozenset[str], gave_up: frozenset[str] = frozenset()) -> World:
        """Read the world; what jobs published is judged by what it did, as it may come in another order."""
        world = self.session.world(wanted, gave_up)
        entries = [entry for entry in self.session.worker.ledger.entries.values() if not entry.duplicate]
        roots = [outcome for outcome, entry in zip(world.outcomes, entries, strict=True) if entry.parent is None]
        return replace(world, outcomes=tuple(roots))

    def _check_publishers(self) -> None:
        for entry in self.session.worker.ledger.entries.values():
            if entry.parent is None and entry.id not in self._known:
                raise UsageError(
                    f"a rule of {self._name} published {entry.name} by itself, so the undisturbed world would lack it; "
                    f"use self.act({entry.name.rpartition('.')[2]}.delay, …)"
                )


class Block:
    """Owns the disturbed world of one example."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._stack = ExitStack()

    def __enter__(self) -> "Block":
        self._told = self._stack.enter_context(fresh(self._session))
        self._stack.callback(forgive, self._session)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def leave(self) -> tuple[str, ...]:
        """Put everything back; return what could not be."""
        self._stack.close()
        return self._told.left
