"""What the durable world looks like after a run, and how two of them differ: values only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_jobs.records import Effect

__all__ = ["EVERYTHING", "Early", "Evidence", "Finding", "Lifetime", "Outcome", "Rows", "Unreadable", "World"]

EVERYTHING = frozenset({"*"})


class Lifetime(str):
    """The state of something that will be gone by itself: one is as good as another.

    Attributes:
        left: How many seconds it had left when the world was read.
    """

    __slots__ = ("left",)

    left: float

    @classmethod
    def of(cls, left: float) -> "Lifetime":
        """Return that of something with so many seconds left."""
        made = cls("yes")
        made.left = left
        return made


@dataclass(frozen=True, slots=True)
class Rows:
    """The committed rows of one table.

    Attributes:
        key: The primary key's columns, empty when the table has none.
        rows: One mapping of column to value a row, in the order they were read.
        surrogate: Whether the database or the job makes the key (autoincrement, UUID): it is compared by position.
        references: Foreign key columns, each with the table (its subject) that it points to.
        places: Foreign key columns whose table was not read, each with the place of its values among the keys there: what
            a test made under other numbers is the same row.
    """

    key: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]
    surrogate: bool = False
    references: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, Mapping[Any, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A part of the world that a probe could not read.

    Attributes:
        probe: Who wanted to look, for example `sqlalchemy`.
        reason: Why it could not, one sentence.
    """

    probe: str
    reason: str


@dataclass(frozen=True, slots=True)
class Early:
    """A job that was published in a transaction before it committed, so that it may run too early, or for nothing.

    Attributes:
        task: The task's name.
        by: The name of the task that published it, empty for the test's code.
        tables: What the transaction wrote, before or after.
        where: The line that published it, where known.
    """

    task: str
    by: str
    tables: tuple[str, ...]
    where: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt of a job ended, as far as two runs can be compared.

    Attributes:
        task: The task's name.
        job: Which job of that task: 1 for the first one published, and so on.
        attempts: A pair a finished attempt: its outcome (`succeeded`, `failed`, …), and the value or the error's text.
        state: The job's state when everything was quiet.
        duplicates: Of those attempts, which (positions, from 0) were extra deliveries made by the schedule.
        injected: The `repr` of each error that the schedule raised in the job.
        delays: The seconds each of its retries was told to wait; empty when the library itself draws them.
        died_of: The `repr` of the error with which it failed instead of an injected one; empty when it did not.
        gave_up: Whether it failed with an injected error, and was run once more by hand; that attempt is not among `attempts`.
    """

    task: str
    job: int
    attempts: tuple[tuple[str, Any], ...]
    state: str
    duplicates: frozenset[int] = frozenset()
    injected: tuple[str, ...] = ()
    delays: tuple[float, ...] = ()
    died_of: str = ""
    gave_up: bool = False


@dataclass(frozen=True, slots=True)
class World:
    """Everything the plugin could see after one run had come to rest.

    Attributes:
        state: What each subject holds: `Rows` for a table (subject: the table's name), any plain value for the rest
            (subject: `redis:lock:7`, `file:out/a.txt`, or the name given to `jobs.watch`).
        effects: Everything the jobs did, in order.
        outcomes: How the jobs of the run ended, in publish order.
        left: What was not at rest: one sentence for each job still pending, lost, or lock still held.
        instants: The instants the virtual clock stood at during the run, in epoch seconds.
        real: From when to when the run took by the real clock, which a database has for its own, in epoch seconds.
        unreadable: What could not be looked at.
        unrun: The task of each job that no worker of the run took, another service's for example.
        early: The jobs that were published before the transaction around them committed.
        touched: What jobs wrote to, also where nothing lies any more.
        kept: How often a message came back only because the test's `ignore` accepts its loss.
        home: The test's `tmp_path`, another one in each run; empty when it has none.
    """

    state: Mapping[str, Any]
    effects: tuple[Effect, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    left: tuple[str, ...] = ()
    instants: frozenset[float] = frozenset()
    real: tuple[float, float] = (0.0, 0.0)
    unreadable: tuple[Unreadable, ...] = ()
    early: tuple[Early, ...] = ()
    unrun: tuple[str, ...] = ()
    touched: frozenset[str] = frozenset()
    kept: int = 0
    home: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One line of the two-column table in a failure.

    Attributes:
        label: What the line is about, for example `#7` or `status`; indented by `depth`.
        once: The value after the undisturbed run, empty for none.
        now: The value after the schedule, empty for none.
        note: A remark at the line's end, for example `added`.
        depth: 0 for a subject, 1 for a row or item of it, 2 for a field.
    """

    label: str
    once: str
    now: str
    note: str = ""
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference between the world after a schedule and after the undisturbed run, or one broken rule.

    Attributes:
        rule: The anchor in the failure reference: `state`, `effect`, `outcome`, `test`, `lost`, `left`, `runaway`, …
        subject: What differs: `payments`, `POST https://…/charges`, `result`.
        once: Its short description after the undisturbed run: `1 row`.
        now: The same after the schedule: `2 rows`.
        evidence: The lines that show it.
    """

    rule: str
    subject: str
    once: str
    now: str
    evidence: tuple[Evidence, ...] = ()
