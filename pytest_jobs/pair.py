"""The baton of two deliveries, of which one runs in the thread that began the other."""

import threading
from threading import get_ident
from typing import TYPE_CHECKING, Any

from pytest_jobs.baton import Baton
from pytest_jobs.strands import GLANCE, Gaze, Strand

if TYPE_CHECKING:
    from pytest_jobs.hosting import Hosting

__all__ = ["Pair"]
__tracebackhide__ = True

LONG = 250  # looks at the first thread, which may wait for a server, until it counts as waiting for the second
ASLEEP = 600  # the same, where the second sleeps: then time jumps
MOST = 2_000  # looks, after which nobody waits for the other to move


class Pair(Baton):
    """Owns two threads of which each may wait for what the other one holds: then that one goes on.

    The thread that makes a `Pair` runs whenever it does not watch the other; where it waits for a lock of the other, the
    other goes on without being watched, until it ends or waits itself.
    """

    def __init__(self, worker: "Hosting") -> None:
        super().__init__(worker, at_lines=False)
        self._first = threading.current_thread()
        self._displaced = worker.current, worker.recorder.sink
        self._gone_on = False

    @property
    def ready(self) -> bool:
        """Whether the second thread could run now, and neither sleeps nor waits for a lock."""
        now = self._worker.clock.now
        return any(each.waits and not each.done and (each.wakes is None or each.wakes <= now) for each in self._strands)

    @property
    def is_first(self) -> bool:
        """Whether the calling thread is the one that watches."""
        return get_ident() == self._first.ident

    def come_back(self, outer: tuple[Any, Any] | None = None) -> None:
        """Wait, in the first thread, for the second one, where that went on meanwhile.

        Args:
            outer: What the worker goes on with, where it is not the first one any more.
        """
        with self._mutex:
            if not self._gone_on:
                return
            holder, self._watched = self._holder, True
        try:
            if holder is not None and not self._over:
                self._look_on(holder)
        finally:
            self._watched = self._gone_on = False
            self._worker.current, self._worker.recorder.sink = self._displaced if outer is None else outer

    def let_wake(self) -> None:
        """Give the second thread time to see that what it waits for may be free."""
        for strand in self._strands:
            gaze = Gaze(strand.thread)
            for _ in range(MOST):
                if strand.waits or strand.done or gaze.waits(freed=True):
                    break
                self._moved.acquire(timeout=GLANCE)

    def _await(self, strand: Strand) -> None:
        gaze = Gaze(self._first)
        while not strand.go.acquire(timeout=GLANCE):
            if self._watched:
                gaze = Gaze(self._first)
            elif gaze.waits(outside=LONG) and self._goes_on(strand, gaze):
                return

    def _goes_on(self, strand: Strand, gaze: Gaze) -> bool:
        """Let the second thread run while the first one waits for it; one that sleeps only where nothing else helps."""
        worker = self._worker
        with self._mutex:
            asleep = strand.wakes is not None and strand.wakes > worker.clock.now
            if self._watched or self._over or self._holder is not None or (asleep and not gaze.stood(ASLEEP)):
                return False
            if strand.wakes is not None and asleep:
                worker.clock.move_to(strand.wakes)
            self._take(strand)
            if not self._gone_on:
                self._displaced = worker.current, worker.recorder.sink
            self._gone_on = True
            worker.current, worker.recorder.sink = strand.kept
        return True
