"""The baton of two deliveries, of which one runs in the thread that began the other."""

import threading
from threading import get_ident
from typing import TYPE_CHECKING

from pytest_jobs.baton import Baton
from pytest_jobs.strands import GLANCE, Gaze, Strand

if TYPE_CHECKING:
    from pytest_jobs.hosting import Hosting

__all__ = ["Pair"]
__tracebackhide__ = True


class Pair(Baton):
    """Owns two threads of which each may wait for what the other one holds: then that one goes on.

    The thread that makes a `Pair` runs whenever it does not watch the other; where it waits for a lock of the other, the
    other goes on without being watched, until it ends or waits itself.
    """

    def __init__(self, worker: "Hosting") -> None:
        super().__init__(worker, at_lines=False)
        self._first = threading.current_thread()
        self._displaced = worker.current, worker.recorder.sink

    @property
    def ready(self) -> bool:
        """Whether the second thread could run now, and neither sleeps nor waits for a lock."""
        now = self._worker.clock.now
        return any(each.waits and not each.done and (each.wakes is None or each.wakes <= now) for each in self._strands)

    @property
    def is_first(self) -> bool:
        """Whether the calling thread is the one that watches."""
        return get_ident() == self._first.ident

    def come_back(self) -> None:
        """Wait, in the first thread, for the second one, where that went on meanwhile."""
        with self._mutex:
            holder = self._holder
            self._watched = holder is not None
        if holder is not None:
            try:
                self._look_on(holder)
            finally:
                self._watched = False
                self._worker.current, self._worker.recorder.sink = self._displaced

    def let_wake(self) -> None:
        """Give the second thread time to see that what it waits for may be free."""
        for strand in self._strands:
            gaze = Gaze(strand.thread)
            while not (strand.waits or strand.done or gaze.waits(freed=True)):
                self._moved.acquire(timeout=GLANCE)

    def _await(self, strand: Strand) -> None:
        gaze = Gaze(self._first)
        while not strand.go.acquire(timeout=GLANCE):
            if self._watched:
                gaze = Gaze(self._first)
            elif gaze.waits() and self._goes_on(strand):
                return

    def _goes_on(self, strand: Strand) -> bool:
        """Let the second thread run while the first one waits for it."""
        worker = self._worker
        if strand.wakes is not None and strand.wakes > worker.clock.now:
            worker.clock.move_to(strand.wakes)
        with self._mutex:
            if self._watched or self._over or self._holder is not None:
                return False
            self._take(strand)
            self._displaced = worker.current, worker.recorder.sink
            worker.current, worker.recorder.sink = strand.kept
        return True
