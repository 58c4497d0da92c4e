"""One thread that runs only while it holds the baton."""

import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from pytest_jobs.dying import places, running_frames

__all__ = ["GLANCE", "Gaze", "Strand", "places_of", "shut", "stance_of"]
__tracebackhide__ = True

GLANCE = 0.001  # seconds of real time after which a thread is looked at that did not come to its next line
STILL = 8  # looks in a row at the same instruction and the same lock, after which a thread counts as waiting for another one
OUTSIDE = 50  # the same, where it is not seen to wait for a lock of this process or for SQLite's: for a server, for a file
NAP = 120  # the same, where SQLite may look for itself whether its lock is free: it sleeps up to 100 ms
SLEEPS = ("hrtimer_nanosleep", "do_nanosleep")  # where in the kernel
WAITING = ("futex", *SLEEPS)


def kernel(thread: threading.Thread, what: str) -> str:
    """Return what Linux says of a thread, nothing elsewhere."""
    try:
        with open(f"/proc/self/task/{thread.native_id}/{what}", encoding="ascii") as told:
            return told.read()
    except OSError:
        return ""


def shut() -> Any:
    """Make a lock that is taken: unlike a semaphore it waits in real time while time is frozen."""
    lock = threading.Lock()
    lock.acquire()
    return lock


class Strand:
    """One thread, and what belongs to it while it does not run."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.thread: Any = None
        self.ident = 0
        self.go = shut()
        self.waits = True
        self.done = False
        self.ended = False
        self.wakes: datetime | None = None
        self.kept: tuple[Any, Any] = (None, None)
        self.error: BaseException | None = None


def stance_of(thread: threading.Thread) -> Any:
    """Return where a thread stands: the same again when it has not moved."""
    frame = running_frames().get(thread.ident or 0)
    if frame is None or kernel(thread, "stat").rpartition(") ")[2][:1] in ("R", "D"):
        # Under way, however long a busy machine lets it stand: never the same as before.
        return object()
    return id(frame), frame.f_lasti


def places_of(strands: Sequence[Strand], source: Any) -> list[str]:
    """Return the line of project code at which each thread stands that has not ended."""
    running, found = running_frames(), []
    for strand in strands:
        if not strand.done:
            for frame in places(running.get(strand.thread.ident), None):
                if source.is_project(frame.f_code.co_filename):
                    found.append(source.label(frame.f_code.co_filename, frame.f_lineno))
                    break
    return found


class Gaze:
    """Looks at one thread again and again, until it counts as waiting for another one."""

    def __init__(self, thread: threading.Thread) -> None:
        self._thread = thread
        self._before: Any = None
        self._still = 0

    def stands(self, looks: int) -> bool:
        """Look once more; return whether it stood still for so many looks."""
        stance = stance_of(self._thread)
        self._still = self._still + 1 if stance == self._before else 0
        self._before = stance
        return self.stood(looks)

    def stood(self, looks: int) -> bool:
        """Whether it has stood still for so many looks."""
        return self._still >= looks

    def waits(self, freed: bool = False, outside: int = OUTSIDE) -> bool:
        """Look once more.

        Args:
            freed: Whether what it waits for may be free: then SQLite finds out only when it wakes.
            outside: After how many looks it does, where it is not seen to wait for a lock of this process or for SQLite's.
        """
        if not self.stands(STILL):
            return False
        place = kernel(self._thread, "wchan")
        if freed and place.startswith(SLEEPS):
            return self._still >= NAP
        return self._still >= outside or place.startswith(WAITING)
