"""A second delivery beside the first, in a thread of its own, where a transaction or a lock of the first is in its way."""

from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING

from pytest_jobs.baton import SURE, Abandoned
from pytest_jobs.heldlocks import is_held
from pytest_jobs.pair import Pair
from pytest_jobs.probes.base import SHARED

if TYPE_CHECKING:
    from pytest_jobs.execution import Execution
    from pytest_jobs.hosting import Hosting

__all__ = ["Rival"]
__tracebackhide__ = True

NAPS = 5  # times that it sleeps before the first delivery goes on: it may ask whether a lock is free, and locks expire
LOOKS = 100  # looks, of some 20 ms of real time each, until it is given up after the first delivery has ended
STUCK = "the second delivery waits for a lock that the first one left behind"
SQLITE = "SQLite locks the whole database"


class Rival:
    """Owns the second delivery of one overlap; it has connections of its own, as in another worker.

    It runs to its end while the first one stands still. Where it waits for what the first one holds, the first goes on until it
    lets go, and then the second. Where it cannot have a connection of its own, it is given up, and the route is told.

    Args of the constructor:
        worker: Whose deliveries they are.
        first: The first one.
        deliver: Hands the message of the second one to the queue's consumer.
    """

    def __init__(self, worker: "Hosting", first: "Execution", deliver: Callable[[], None]) -> None:
        self.first = first
        self.awaited = False
        self._worker = worker
        self._deliver = deliver
        self._held = [held.connection for held in worker.recorder.held()]
        self._locks = first.locks
        self._holding = True
        self._baton = Pair(worker)
        self._waited = False
        self._ended: Callable[[], bool] = lambda: True
        self._error: BaseException | None = None
        self._given_up = ""

    def begin(self) -> None:
        """Let it run to its end, or until it waits for the first one."""
        worker = self._worker
        worker.rival, worker.baton, worker.recorder.rival = self, self._baton, self
        self.awaited = True
        try:
            self._deliver()
        finally:
            self.awaited = False
        self._run()
        self._waited = True

    def take_on(self, work: Callable[[], None]) -> None:
        """Do the work of the delivery in a thread of its own."""
        self.awaited = False
        with self._worker.watch.apart():
            self._ended = self._baton.begin(partial(copy_context().run, self._live, work))

    def finish(self) -> None:
        """Let it come to its end after the first one has ended.

        Raises:
            BaseException: What it raised that is not the job's own error.
        """
        worker = self._worker
        self._waited = False
        self._baton.come_back(self.first.outer)
        with worker.queue.together(worker.queue.resolve(self.first.entry.name)):
            for _ in range(LOOKS):
                if self._ended():
                    break
                self._run(SURE)
            else:
                self._given_up = self._given_up or STUCK
        self.close()

    def close(self) -> None:
        """Let nothing of it live on.

        Raises:
            BaseException: What it raised that is not the job's own error.
        """
        worker = self._worker
        self._baton.close()
        self._baton.come_back(self.first.outer)
        worker.rival = worker.baton = worker.recorder.rival = None
        if not self._given_up and any(_is_locked(attempt.error) for attempt in self.first.entry.attempts):
            self._given_up = SQLITE
        worker.route.closed = worker.route.closed or self._given_up
        if self._error is not None:
            raise self._error

    def _run(self, looks: int = 1) -> None:
        """Let it run until it ends or waits for another thread; while it sleeps, time passes."""
        worker = self._worker
        for _ in range(NAPS):
            self._baton.run_ready(looks)
            wakes = self._baton.next_wake
            if wakes is None:
                return
            worker.pass_time((wakes - worker.clock.now).total_seconds())

    def _let_go_on(self, may_wait: bool) -> None:
        """Let it go on, in the thread of the first one, as soon as the first has let go of what it waits for.

        Args:
            may_wait: Whether what the first one holds is asked here.
        """
        if not self._waited or not self._baton.is_first:
            return
        self._baton.come_back()
        if may_wait and self._holding and not self._holds():
            self._holding = False
            self._baton.let_wake()
        if self._baton.ready:
            # Time stands still meanwhile: how often it may ask for a lock was decided when it began.
            self._baton.run_ready(looks=1)

    def _holds(self) -> bool:
        """Whether the first one still holds what it held when the second one began."""
        if self._locks:
            return any(map(is_held, self._locks))
        return any(held.connection is each for held in self._worker.recorder.held() for each in self._held)

    # In its thread

    def _live(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Abandoned:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again where no code of the project is in between
            self._error = error
        finally:
            for leave in self._worker.recorder.leaves.values():
                leave()

    def pause(self) -> None:
        """Stand before a line of project code."""
        if self._baton.inside:
            self._baton.pause()
        else:
            self._let_go_on(bool(self._locks))

    def turn(self) -> None:
        """Wait for the calling thread's turn, when it went on by itself."""
        if self._baton.inside:
            self._baton.turn()
        else:
            self._let_go_on(bool(self._held))

    def uses(self, connection: object, alone: str) -> None:
        """Give it up where it uses what only the first one's process has.

        Raises:
            Abandoned: To end the calling thread's delivery.
        """
        if not self._baton.inside:
            return
        if not alone and any(each is connection for each in self._held):
            if any(held.connection is connection for held in self._worker.recorder.held()):
                alone = SHARED
            else:  # it went back to its pool meanwhile
                self._held = [each for each in self._held if each is not connection]
        if alone:
            self._given_up = alone
            raise Abandoned


def _is_locked(error: BaseException | None) -> bool:
    """Tell whether an error, or one beneath it, says that a whole SQLite file was locked: other databases lock rows."""
    while error is not None:
        if type(error).__module__ == "sqlite3" and "is locked" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
