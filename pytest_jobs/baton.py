"""Threads of which one runs at a time: it hands the baton on between two lines of project code."""

import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from random import Random
from threading import get_ident
from typing import TYPE_CHECKING, Any

from pytest_jobs.dying import places, running_frames
from pytest_jobs.heldlocks import held_locks, let_go
from pytest_jobs.strands import GLANCE, Gaze, Strand, places_of, shut, stance_of

if TYPE_CHECKING:
    from pytest_jobs.hosting import Hosting

__all__ = ["SURE", "Abandoned", "Baton", "Stuck"]
__tracebackhide__ = True

SURE = 20  # looks, after which time passes without a thread that does not come to its next line
PATIENCE = 2.0  # seconds of real time without any thread moving, after which they wait for each other


class Abandoned(BaseException):
    """Ends a thread that can never come to its end by itself."""


class Stuck(Exception):
    """The threads wait for each other; `places` are the lines at which they do."""

    def __init__(self, where: Sequence[str]) -> None:
        super().__init__(", ".join(where))
        self.places = tuple(where)


class Baton:
    """Owns the threads of one round: who runs, and who is next.

    A thread that waits for a lock which another one holds is found out by looking at it, and passed over until it moves.

    Args of the constructor:
        worker: Whose current execution and sink change with the thread.
        seed: Chooses the interleaving; 0 hands over at every line, in turn.
        at_lines: Whether threads change between lines of project code, or only where one sleeps or ends.
    """

    def __init__(self, worker: "Hosting", seed: int = 0, at_lines: bool = True) -> None:
        self.at_lines = at_lines
        self._worker = worker
        self._random = Random(seed)
        self._in_turn = seed == 0
        self._strands: list[Strand] = []
        self._mutex = threading.Lock()
        self._moved = shut()
        self._known: dict[int, Strand] = {}
        self._holder: Strand | None = None
        self._last = -1
        self._over = False
        self._watched = False

    @property
    def inside(self) -> bool:
        """Whether the calling thread is one of these."""
        return get_ident() in self._known

    def add(self, work: Callable[[], Any]) -> None:
        """Let a thread of its own do some work once all of them run."""
        self._strands.append(Strand(work))

    def begin(self, work: Callable[[], Any]) -> Callable[[], bool]:
        """Let a thread of its own do some work as soon as it is its turn; return what tells whether it has ended."""
        strand = Strand(work)
        self._strands.append(strand)
        self._start(strand)
        return lambda: strand.done

    def _start(self, strand: Strand) -> None:
        name = f"jobs-thread-{len(self._strands)}"
        strand.thread = threading.Thread(target=self._live, args=(strand,), name=name, daemon=True)
        strand.thread.start()

    @property
    def next_wake(self) -> datetime | None:
        """When the first of the sleeping threads wakes."""
        return min((each.wakes for each in self._strands if each.wakes is not None and not each.done), default=None)

    def run_ready(self, looks: int = SURE) -> None:
        """Run the threads that do not sleep until all of them do, or have ended.

        Args:
            looks: How often a thread is looked at that waits for something else.

        Raises:
            BaseException: What one of them raised.
        """
        outer = self._worker.current, self._worker.recorder.sink
        self._watched = True
        try:
            while (strand := self._ready_one(looks)) is not None:
                self._switch(strand)
        finally:
            self._watched = False
            self._worker.current, self._worker.recorder.sink = outer
        ended = [strand for strand in self._strands if strand.done]
        self._strands = [strand for strand in self._strands if not strand.done]
        for strand in ended:
            strand.thread.join(PATIENCE)
            self._known.pop(strand.ident, None)
        for strand in ended:
            if strand.error is not None:
                raise strand.error

    def _ready_one(self, looks: int) -> Strand | None:
        """Return a thread that could run now; wait a little for one that waits for another."""
        for _ in range(looks):
            now = self._worker.clock.now
            for strand in self._strands:
                if strand.waits and not strand.done and (strand.wakes is None or strand.wakes <= now):
                    return strand
            if all(strand.waits or strand.done for strand in self._strands):
                return None
            self._moved.acquire(timeout=GLANCE)
        return None

    def close(self) -> None:
        """Let no thread live on."""
        self._abandon()

    def run(self) -> None:
        """Run all threads to their end.

        Raises:
            Stuck: When they wait for each other.
        """
        outer = self._worker.current, self._worker.recorder.sink
        for strand in self._strands:
            self._start(strand)
        try:
            while any(not strand.done for strand in self._strands):
                self._switch(self._next())
        finally:
            self._abandon()
            self._worker.current, self._worker.recorder.sink = outer
        for strand in self._strands:
            if strand.error is not None:
                raise strand.error

    # In the threads

    def pause(self) -> None:
        """Stand before a line of project code, where another thread may come first."""
        strand = self._mine()
        if strand is None:
            return
        if strand is not self._holder or (self.at_lines and (self._in_turn or self._random.random() < 0.5)):
            self._hand_over(strand)

    def turn(self) -> None:
        """Wait for the calling thread's turn, when it went on by itself after it had waited for something else."""
        strand = self._mine()
        if strand is not None and strand is not self._holder:
            self._hand_over(strand)

    def sleep(self, length: float) -> bool:
        """Let the other threads run while this one sleeps; return whether this is one of the threads."""
        strand = self._mine()
        if strand is None:
            return False
        strand.wakes = self._worker.clock.now + timedelta(seconds=length)
        self._hand_over(strand)
        return True

    def _mine(self) -> Strand | None:
        return self._known.get(get_ident())

    def _live(self, strand: Strand) -> None:
        strand.ident = get_ident()
        self._known[strand.ident] = strand
        strand.go.acquire()
        try:
            if not self._over:
                strand.work()
        except Abandoned:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again where the round was begun
            strand.error = error
        finally:
            with self._mutex:
                strand.done = True
                self._let_go(strand)

    def _hand_over(self, strand: Strand) -> None:
        if self._over:
            self._end(strand)
            return
        with self._mutex:
            strand.waits = True
            if strand is self._holder:
                strand.kept = self._worker.current, self._worker.recorder.sink
            self._let_go(strand)
        self._await(strand)
        if self._over:
            self._end(strand)

    def _await(self, strand: Strand) -> None:
        strand.go.acquire()

    @staticmethod
    def _end(strand: Strand) -> None:
        # Once only: raised again on the way out, at the line of a `with`, it would keep the lock from being let go.
        if not strand.ended:
            strand.ended = True
            raise Abandoned

    def _let_go(self, strand: Strand) -> None:
        if strand is self._holder:
            self._holder = None
            if self._moved.locked():
                self._moved.release()

    # In the thread that began the round

    def _next(self) -> Strand:
        """Choose who runs, letting time pass when all who could run sleep."""
        still, before = 0, self._stances()
        while True:
            waiting = [strand for strand in self._strands if strand.waits and not strand.done]
            now = self._worker.clock.now
            ready = [strand for strand in waiting if strand.wakes is None or strand.wakes <= now]
            if ready:
                return self._chosen(ready)
            wakes = min((strand.wakes for strand in waiting if strand.wakes is not None), default=None)
            under_way = len(waiting) < sum(not strand.done for strand in self._strands)
            if wakes is not None and (not under_way or still >= SURE):
                self._worker.clock.move_to(wakes)
                continue
            if not waiting and not under_way:
                return self._strands[0]
            self._moved.acquire(timeout=GLANCE)
            stances = self._stances()
            still = still + 1 if stances == before else 0
            before = stances
            if still * GLANCE > PATIENCE:
                raise Stuck(places_of(self._strands, self._worker.source))

    def _chosen(self, ready: list[Strand]) -> Strand:
        numbers = [self._strands.index(strand) for strand in ready]
        if self._in_turn:
            number = next((each for each in numbers if each > self._last), numbers[0])
        else:
            number = self._random.choice(numbers)
        self._last = number
        return self._strands[number]

    def _switch(self, strand: Strand) -> None:
        """Let one thread run until it hands over, ends, or waits for another one."""
        if strand.done:
            return
        self._worker.current, self._worker.recorder.sink = strand.kept
        with self._mutex:
            self._take(strand)
        strand.go.release()
        self._look_on(strand)

    def _take(self, strand: Strand) -> None:
        self._holder, strand.waits, strand.wakes = strand, False, None
        self._moved.acquire(blocking=False)

    def _look_on(self, strand: Strand) -> None:
        """Wait until the one that runs hands over, ends, or waits for another one."""
        gaze = Gaze(strand.thread)
        while not self._moved.acquire(timeout=GLANCE):
            if gaze.waits():
                with self._mutex:
                    if self._holder is strand:
                        strand.kept = self._worker.current, self._worker.recorder.sink
                        self._holder = None
                        return

    def _stances(self) -> list[Any]:
        return [None if strand.done else stance_of(strand.thread) for strand in self._strands]

    def _abandon(self) -> None:
        """Let no thread outlive its round: those that wait for each other are freed, and stopped at their next line."""
        self._over = True
        alive = [strand for strand in self._strands if strand.thread is not None and not strand.done]
        for strand in alive:
            if strand.go.locked():
                strand.go.release()
        for _ in range(len(alive)):
            running = running_frames()
            for strand in alive:
                if not strand.done:
                    frames = list(places(running.get(strand.thread.ident), None))
                    let_go(held_locks(frames, self._worker.source.is_project))
                    strand.thread.join(0.05)
        for strand in self._strands:
            # One that still lives takes its time on a busy machine; what it puts back must not come after us.
            if strand.thread is not None:
                strand.thread.join(PATIENCE)
