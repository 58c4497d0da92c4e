"""What one run of a test under a schedule was, and what all of them are together: values only."""

import re
from collections.abc import Hashable
from dataclasses import dataclass, field

from pytest_jobs.route import Point
from pytest_jobs.schedules import Schedule
from pytest_jobs.world import World

__all__ = ["VOLATILE", "Exploration", "Run"]

VOLATILE = re.compile(r"[0-9a-fA-F]{8}[0-9a-fA-F-]*|\d+")


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
        outgoing: The numbers of its outgoing calls, likewise.
        callers: The task of each of them.
        blamed: The tasks that the schedule struck, each with what their attempts did.
        ignore: The patterns of differences that are fine in it.
        hit: Which outgoing call the schedule let fail.
        closed: Why its overlap could not be tried, empty when it could; nothing in it is then judged.
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
    outgoing: tuple[int, ...] = ()
    callers: tuple[str, ...] = ()
    blamed: tuple[tuple[str, frozenset[str]], ...] = ()
    ignore: tuple[str, ...] = ()
    hit: str = ""
    closed: str = ""

    @property
    def retried(self) -> Hashable:
        """What failed and was retried after it; nothing when no job was retried."""
        tasks = [task for task, touched in self.blamed if any(label.startswith("retry ") for label in touched)]
        return (VOLATILE.sub("#", self.hit), *tasks) if tasks and self.hit else ()


@dataclass(slots=True)
class Exploration:
    """What exploring one test brought.

    Attributes:
        first: The undisturbed run; None when nothing was explored.
        runs: The runs under schedules.
        vacuous: The kinds that found nothing to do; of the one schedule that was asked for, its id.
        missed: The ids of schedules that found nothing to do, although others of their kind did.
        left_out: How many schedules the budget cut.
        closed: Why overlap was not tried inside an open transaction, once for each point.
        spoiled: Why the undisturbed run failed, empty when it did not.
        all_kinds: Whether every kind was asked for, so that none was by name.
    """

    first: Run | None = None
    runs: list[Run] = field(default_factory=list)
    vacuous: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    left_out: int = 0
    closed: list[str] = field(default_factory=list)
    spoiled: str = ""
    all_kinds: bool = False

    @property
    def subjects(self) -> frozenset[str]:
        """What any of the runs wrote, so that the undisturbed one is asked for it too."""
        runs = [*self.runs, *([self.first] if self.first is not None else [])]
        return frozenset(subject for run in runs if run.world is not None for subject in run.world.touched)
