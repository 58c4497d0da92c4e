"""The points of one run, numbered as they are reached, and what the schedule does at them."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_jobs.probes.base import Transient, why_alone
from pytest_jobs.records import Effect
from pytest_jobs.retries import ENDLESS
from pytest_jobs.schedules import AT_POINTS, Schedule, error_named

if TYPE_CHECKING:
    from pytest_jobs.execution import Execution

__all__ = ["WAITS", "Point", "Route"]

MOST_POINTS = 1_000_000
WAITS = "the second delivery waits for a lock of the first one"


@dataclass(frozen=True, slots=True)
class Point:
    """A place in a running task where it can be interrupted.

    Attributes:
        number: Which point of the run, from 1: the number in `crash@7`.
        label: `billing/tasks.py:42 after POST https://…/charges`.
        closed: Why no second delivery could run there, empty where one could.
        task: Whose point it is.
    """

    number: int
    label: str
    closed: str = ""
    task: str = ""


class Route:
    """Owns the numbering of one world's points and outgoing calls.

    Attributes:
        apart: Whether an overlapping delivery has a thread of its own in any case.
        closed: Why the overlap of the schedule was not possible, or came to nothing, empty when it was not.
    """

    def __init__(self, schedule: Schedule, record: bool, signature: Callable[[], Hashable]) -> None:
        self.schedule = schedule
        self.recording = record
        self.untouched = [step for step in schedule.steps if step.kind != "once"]
        self._doubling = False
        self.signature = signature
        self.reached = 0
        self.calls = 0
        self.hit = ""
        self.closed = ""
        self.apart = any(step.apart for step in schedule.steps)
        self._losing: Effect | None = None
        self._down: tuple[str, str, Transient] | None = None
        self._classes: dict[Hashable, Point] = {}
        self._outgoing: list[int] = []
        self._callers: list[str] = []

    @property
    def lines(self) -> bool:
        """Whether lines of project code have to be seen."""
        return self.recording or self.schedule.has(*AT_POINTS)

    @property
    def struck(self) -> bool:
        """Whether every fault of the schedule found something to do."""
        return not self.untouched

    @property
    def over(self) -> bool:
        """Whether nothing is left to strike or to write down."""
        return not self.untouched and not self.recording

    @property
    def doubles(self) -> bool:
        """Whether a delivery that succeeded now comes again at once."""
        if self.strikes("twice", None):
            self._doubling = True
        return self._doubling

    def strikes(self, kind: str, at: int | None) -> bool:
        """Tell whether a fault of this kind is next, and strikes here; count it as struck."""
        if not self._next(kind, at):
            return False
        del self.untouched[0]
        return True

    def _next(self, kind: str, at: int | None) -> bool:
        return bool(self.untouched) and self.untouched[0].kind == kind and self.untouched[0].at == at

    def _raised(self, error: Transient) -> Transient:
        """Return what makes the error of the next fault: the one that it names, else the library's own."""
        named = self.untouched[0].error if self.untouched else ""
        return error_named(named) if named else error

    @property
    def points(self) -> tuple[Point, ...]:
        """One point of each class, the last that was reached: same effects so far, same watched values."""
        return tuple(self._classes.values())

    @property
    def outgoing(self) -> tuple[int, ...]:
        """The numbers of the outgoing calls; where a schedule is recorded, of those after its last fault."""
        return tuple(self._outgoing)

    @property
    def callers(self) -> tuple[str, ...]:
        """The task of each of those calls."""
        return tuple(self._callers)

    def mend(self) -> None:
        """Let what goes on failing work again."""
        self._down = None

    def line(self, execution: "Execution") -> None:
        """A line of project code is about to run; most are only counted."""
        untouched = self.untouched
        if untouched[0].at != self.reached + 1 if untouched else not self.recording:
            if execution.disturbed and self.reached < MOST_POINTS:
                self.reached += 1
            return
        self._reach(execution, "")

    def before(self, execution: "Execution", effect: Effect, error: Transient | None) -> None:
        """An effect is about to happen."""
        if not execution.disturbed:
            return
        self._reach(execution, f"before {effect.label}")
        if error is None:
            return
        self.calls += 1
        if self.recording and not self.untouched:
            self._outgoing.append(self.calls)
            self._callers.append(execution.entry.name)
        make = self._raised(error)
        down = self._down
        if down is not None and down[:2] == (execution.entry.id, effect.target) and len(execution.entry.injected) < ENDLESS:
            execution.fail(down[2](), f"{self.schedule}: {effect.label} failed again")
        if self._next("fail", self.calls):
            self.hit = effect.label
            if self.untouched.pop(0).on:
                self._down = (execution.entry.id, effect.target, make)
            execution.fail(make(), f"{self.schedule}: {effect.label} failed")
        if self._next("reply-lost", self.calls):
            self._losing = effect

    def after(self, execution: "Execution", effect: Effect, error: Transient | None) -> None:
        """An effect took place."""
        if not execution.disturbed:
            return
        if self._losing is effect and error is not None:
            self._losing = None
            make = self._raised(error)
            del self.untouched[0]
            execution.fail(make(), f"{self.schedule}: the reply to {effect.label} was lost")
        self._reach(execution, f"after {effect.label}")

    def _reach(self, execution: "Execution", label: str) -> None:
        if not execution.disturbed or self.reached >= MOST_POINTS:
            return
        self.reached += 1
        if not self.recording and (not self.untouched or self.untouched[0].at != self.reached):
            return
        where = execution.where
        label = label or f"line {where}"
        if self.recording and not self.untouched:
            done = tuple(effect.label for effect in execution.effects)
            held = execution.worker.recorder.held()
            key = (execution.delivery, execution.retries, done, bool(held), self.signature())
            after = f" after {done[-1]}" if label.startswith("line") and done else ""
            text = f"{where}{after}" if label.startswith("line") else f"{where} {label}".strip()
            self._classes.pop(key, None)
            self._classes[key] = Point(self.reached, text, why_alone(held), execution.entry.name)
        if self.strikes("crash", self.reached):
            execution.kill(f"killed at {where} {label}" if not label.startswith("line") else f"killed at {where}")
        if self._next("overlap", self.reached):
            self.closed = execution.worker.closed(execution)
            if not self.closed and self.strikes("overlap", self.reached):
                execution.overlap(f"overlapped at {where}")
