"""What a probe is, and the recorder that probes report to."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

from pytest_jobs.probes.running import outside_of_loops
from pytest_jobs.records import Effect
from pytest_jobs.world import Unreadable

__all__ = ["DELETED", "NO_ROW_LOCKS", "OF_THE_TEST", "SHARED", "SINGLE", "Held", "Patches", "Probe", "Recorder", "Restorable", "Sink", "Transient", "why_alone"]

Transient = Callable[[], BaseException]
MISSING = object()
DELETED = "(deleted)"
SHARED = "both deliveries use one connection"
SINGLE = "the database has one connection only"
OF_THE_TEST = "the test holds a transaction around it"
NO_ROW_LOCKS = "SQLite knows no SELECT … FOR UPDATE"


@dataclass(frozen=True, slots=True)
class Held:
    """A connection on which a job holds a transaction open in which it wrote, or locks.

    Attributes:
        connection: The connection.
        alone: Why no other worker could have a connection of its own beside it, empty where one could.
    """

    connection: object
    alone: str = ""


def why_alone(held: Iterable[Held]) -> str:
    """Return why no second delivery can run beside these connections, empty where one can."""
    return next((each.alone for each in held if each.alone), "")


class Sink(Protocol):
    """What the worker does at an effect of the job it runs."""

    def before(self, effect: Effect, error: Transient | None) -> None:
        """Stand right before the effect; raise to stop it (a kill, an injected error, a dead task)."""

    def after(self, effect: Effect, error: Transient | None) -> None:
        """Stand right after the effect took place; record it; raise to kill or to lose the reply."""


class Beside(Protocol):
    """A second delivery that runs beside the first, in a thread of its own."""

    def turn(self) -> None:
        """Wait until it is the calling thread's turn."""

    def uses(self, connection: object, alone: str) -> None:
        """Know that the calling thread uses a connection; raise where a worker of its own would have had another one."""


class Recorder:
    """Owns the way from probes to the running job.

    A probe wraps every outgoing call of its library in `doing`. Outside a running job, while paused, and inside
    another effect (what a test's fake server does is part of the call it answers) nothing happens.

    Attributes:
        sink: What stands around the effects of the job that runs, None when none does.
        hurried: Whether nobody may wait for a lock.
        holds: A question of probes, by their names: on which connections does a job hold a transaction open in which it wrote,
            or locks?
        locks: A question of probes, by their names: is a database that jobs used locked right now?
        blocks: A question of probes, by their names: what was written in each transaction that is open now and not the test
            framework's? The answer grows until the transaction ends.
        nests: What probes do, by their names, to give a job that runs inside another one what a worker has of its own.
        leaves: What probes do, by their names, in a thread of ours that ends: they close what it has of its own.
        rival: Told, while a second delivery runs in a thread of its own, of each connection that is used; see `Rival`.
    """

    def __init__(self) -> None:
        self.sink: Sink | None = None
        self.hurried = False
        self.holds: dict[str, Callable[[], Iterable[Held]]] = {}
        self.locks: dict[str, Callable[[], bool]] = {}
        self.blocks: dict[str, Callable[[], Sequence[Mapping[str, None]]]] = {}
        self.nests: dict[str, Callable[[], AbstractContextManager[None]]] = {}
        self.leaves: dict[str, Callable[[], None]] = {}
        self.rival: Beside | None = None
        self._inside: ContextVar[bool] = ContextVar("inside an effect", default=False)

    @property
    def holding(self) -> bool:
        """Whether a job holds a transaction open in which it wrote, or locks."""
        return any(True for held in self.holds.values() for _ in held())

    def held(self) -> list[Held]:
        """Return the connections on which a job holds a transaction open in which it wrote, or locks."""
        return [each for held in self.holds.values() for each in held()]

    def turn(self) -> None:
        """Wait until it is this thread's turn, where it went on by itself after it had waited for another one."""
        if self.rival is not None:
            self.rival.turn()

    @property
    def locking(self) -> bool:
        """Whether somebody holds a lock that another worker would wait for, found out by trying to get it."""
        with self.paused():
            return any(locked() for locked in self.locks.values())

    def open_blocks(self) -> list[Mapping[str, None]]:
        """Return what was written in each transaction that is open now and not the test framework's."""
        return [block for blocks in self.blocks.values() for block in blocks()]

    @contextmanager
    def nesting(self) -> Iterator[None]:
        """Let another worker's job run inside this one: it has its own sessions, and waits for no lock of ours."""
        before, self.hurried = self.hurried, True
        try:
            with ExitStack() as stack:
                stack.enter_context(outside_of_loops())
                for apart in self.nests.values():
                    stack.enter_context(apart())
                yield
        finally:
            self.hurried = before

    @property
    def active(self) -> bool:
        """Whether a call made now is an effect of a job."""
        return self.sink is not None and not self._inside.get()

    @contextmanager
    def doing(self, effect: Effect, error: Transient | None = None, *, atomic: bool = True) -> Iterator[None]:
        """Report an effect around the call that makes it; works around `await` too.

        Args:
            effect: What is about to happen.
            error: Makes the library's own transient error, as it would come out of this call.
            atomic: Whether effects made meanwhile are part of this one; a file that stays open, and a mock that
                lets its call through to real code, hide nothing.
        """
        self.turn()
        sink = self.sink
        if sink is None or self._inside.get():
            yield
            return
        sink.before(effect, error)
        if not atomic:
            yield
        else:
            token = self._inside.set(True)
            try:
                yield
            finally:
                self._inside.reset(token)
        self.turn()
        sink.after(effect, error)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Look at the world without making effects."""
        token = self._inside.set(True)
        try:
            yield
        finally:
            self._inside.reset(token)


class Patches:
    """Owns attributes that are replaced for a while, and puts each back exactly as it was."""

    def __init__(self) -> None:
        self._replaced: list[tuple[Any, str, Any, Any]] = []

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Put what `make` returns, given the present attribute, in the place of a module's or class's attribute.

        What a test has put in the library's place may have no such attribute, or be no class: it is left alone.
        """
        if not isinstance(owner, type | ModuleType) or not hasattr(owner, name):
            return
        before = vars(owner).get(name, MISSING)
        replacement = make(getattr(owner, name))
        setattr(owner, name, replacement)
        self._replaced.append((owner, name, before, replacement))

    def undo(self) -> None:
        """Restore, last first; what somebody else has replaced since is theirs to restore, and is left alone."""
        while self._replaced:
            owner, name, before, replacement = self._replaced.pop()
            if vars(owner).get(name, MISSING) is not replacement:
                continue
            if before is MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, before)


class Probe(Protocol):
    """Sees one library: reports its effects while they happen, and reads what they left.

    Attributes:
        name: The library, as users know it: `sqlalchemy`, `redis`, `http`.
    """

    name: str

    def install(self, recorder: Recorder) -> None:
        """Hook the library's outgoing calls; the library is in `sys.modules` already."""

    def remove(self) -> None:
        """Leave the library as it was before `install`."""

    def read(self, wanted: frozenset[str]) -> tuple[Mapping[str, Any], tuple[Unreadable, ...]]:
        """Return the state of every subject written since `install`, and of those `wanted` that are this probe's.

        Where `EVERYTHING` is wanted: of all that lies where jobs wrote to, or could write to without a word.

        Must cost nothing when nothing was written and nothing is wanted, must make no effects, and must answer what it
        could not read with `Unreadable` instead of raising.
        """

    def forget(self) -> None:
        """Close what a killed task left open (cursors, transactions), as the death of its process would."""


@runtime_checkable
class Touching(Protocol):
    """What a probe may know besides: what jobs wrote to, whatever lies there now; the undisturbed run is asked for it too."""

    @property
    def touched(self) -> Iterable[str]: ...


@runtime_checkable
class Restorable(Protocol):
    """What a probe may know besides: to put back what it sees, for one world after another without new fixtures."""

    def keep(self) -> None:
        """Remember the world as it is now, and what was written so far; costs little while nothing is used."""

    def restore(self) -> tuple[str, ...]:
        """Put it back; return one sentence for each part that was changed and could not be."""
